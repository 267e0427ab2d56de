"""The contract of a code generator: say what stands in the way, lower a Program to files, open those to run them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from hycompile.target import Precision, Target

if TYPE_CHECKING:
    from torch import Tensor

    from hycompile.artifact import Artifact
    from hycompile.program import Program


@dataclass(frozen=True)
class Obstacle:
    """Something the target cannot take, or takes only by falling back.

    ``where`` is the line of model source it came from (``mixer.py:41 in forward``), empty if unknown.
    ``fatal`` means ``lower`` would refuse; otherwise it costs speed (a portable kernel, a CPU fallback).
    """

    operator: str
    count: int
    reason: str
    way_out: str
    where: str = ""
    fatal: bool = True


@dataclass(frozen=True)
class Lowered:
    """What ``lower`` left in its folder.

    Args:
        files: role to file name, relative to the folder (``{"model": "model.pte"}``); a folder counts as one file.
        facts: JSON values for the report (delegated share, operators outside, opset, target triple).
        tools: package name to version, of everything that shaped the files.
    """

    files: dict[str, str]
    facts: dict[str, object] = field(default_factory=dict)
    tools: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class OperatorTime:
    """Time of one operator kind over a run: ``ms`` is the sum over ``calls`` of each call's fastest repetition."""

    operator: str
    calls: int
    ms: float


class Session(Protocol):
    """A loaded artifact. State lives inside and starts at the values the Program was captured with."""

    def run(self, inputs: Sequence[Tensor], method: str = "forward") -> tuple[Tensor, ...]:
        """Execute one method on flat inputs, in the order of its placeholders; returns the flat outputs."""
        ...

    def state(self) -> dict[str, Tensor] | None:
        """The current state by the Program's buffer names; None where the runtime hides it."""
        ...

    def profile(self, inputs: Sequence[Tensor], runs: int = 8) -> list[OperatorTime] | None:
        """Time per operator, slowest first; None where the runtime cannot tell."""
        ...


class Backend(Protocol):
    """One runtime's code generator. Registered by entry point in the group ``hycompile.backends``.

    ``measurable`` is False where the host runs artifacts in a reference interpreter, whose speed means nothing.
    A class may also have ``choices``: keys of its table in a device file whose values change speed and nothing else,
    each with the values worth measuring (``hycompile tune``); and ``quantise``: the pass, with its options, that makes
    a plan it can take, where that is not ``quantise`` alone.
    """

    name: ClassVar[str]
    precisions: ClassVar[tuple[Precision, ...]]
    measurable: ClassVar[bool]

    def missing(self, target: Target) -> str | None:
        """None when its packages are here; otherwise one line: what is missing and how to get it."""
        ...

    def cannot_run(self, target: Target) -> str | None:
        """None when this host can execute artifacts for the target; otherwise why not ("built, not run: ...")."""
        ...

    def obstacles(self, program: Program, target: Target) -> list[Obstacle]:
        """Everything the target cannot take, at once, before the long build."""
        ...

    def lower(self, program: Program, target: Target, folder: Path) -> Lowered:
        """Write the artifact's files into ``folder`` (empty, private to this call).

        Raises:
            Unsupported: the runtime cannot express the program; nothing is silently changed or dropped.
        """
        ...

    def open(self, artifact: Artifact, threads: int | None = None) -> Session:
        """Load an artifact for execution on this host, with ``threads`` intra-operator threads if given."""
        ...
