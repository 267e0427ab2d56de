"""A Core ML package run by the reference interpreter."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from hycompile.artifact import MethodSpec
from hycompile.backend import OperatorTime
from hycompile.backends.coreml.interpreter import Machine
from hycompile.backends.coreml.interpreter.machine import Declared
from hycompile.errors import ArtifactError


@dataclass(frozen=True)
class States:
    """Where the Program's buffers are, as a package's manifest says.

    Args:
        kept: Core ML's state names to the Program's buffer names.
        widths: of buffers that the package holds wider than the Program, the Program's last dimension.
        arguments: by method, the ``inputs`` and ``outputs`` that stand for buffers, each by name.
    """

    kept: Mapping[str, str]
    widths: Mapping[str, int]
    arguments: Mapping[str, Mapping[str, Mapping[str, str]]]


class InterpreterSession:
    """Runs a package's functions in torch on the CPU, operator by operator, over state that starts at zero.

    It checks the conversion: operators, weights, shapes, state. It does not show Apple's accumulation in 16 bits, nor
    what the Neural Engine takes, nor anything about speed. State that a package takes as arguments is held here, as its
    caller would.

    Args:
        machines: the function of each method.
        methods: each method's signature, as in the manifest.
        states: where state is.
        threads: torch's threads while it runs; as they are, if None.
    """

    def __init__(
        self,
        machines: Mapping[str, Machine],
        methods: Mapping[str, MethodSpec],
        states: States,
        threads: int | None = None,
    ) -> None:
        self._machines, self._methods, self._threads = machines, methods, threads
        self._where = states
        self._state = {
            name: _zeros(declared) for machine in machines.values() for name, declared in machine.states.items()
        }
        self._given = {
            buffer: _zeros(machines[method].inputs[name])
            for method, arguments in states.arguments.items()
            for name, buffer in arguments["inputs"].items()
        }
        unnamed = sorted(self._state.keys() - states.kept.keys())
        if unnamed:
            raise ArtifactError(
                f"states {unnamed}", "are in the package but not in its manifest", "rebuild the artifact"
            )

    def run(self, inputs: Sequence[Tensor], method: str = "forward") -> tuple[Tensor, ...]:
        """Execute one method on flat inputs, cast to the types the package declares; outputs have the Program's types.

        Raises:
            ArtifactError: an unknown method, inputs that do not fit, or a package that contradicts itself.
            Unsupported: an operator form the interpreter does not know.
        """
        if method not in self._machines:
            raise ArtifactError(f"method {method!r}", "not in this package", f"it has {sorted(self._machines)}")
        machine, spec = self._machines[method], self._methods[method]
        arguments = self._where.arguments.get(method, {"inputs": {}, "outputs": {}})
        own = [name for name in machine.inputs if name not in arguments["inputs"]]
        if len(inputs) != len(own):
            raise ArtifactError(f"{len(inputs)} inputs", f"{method!r} takes {len(own)}", "give one tensor per input")
        given = {name: self._given[buffer] for name, buffer in arguments["inputs"].items()}
        with _threads(self._threads):
            results = machine.run(dict(zip(own, inputs, strict=True)) | given, self._state)
        named = {declared.name: value for declared, value in zip(machine.outputs, results, strict=True)}
        self._given |= {buffer: named[name] for name, buffer in arguments["outputs"].items()}
        return tuple(_as_declared(value, output.dtype) for value, output in zip(results, spec.outputs, strict=False))

    def state(self) -> dict[str, Tensor]:
        """The current state by the Program's buffer names."""
        named = {self._where.kept[name]: value for name, value in self._state.items()} | self._given
        return {name: value[..., : self._where.widths.get(name)].clone() for name, value in named.items()}

    def profile(self, inputs: Sequence[Tensor], runs: int = 8) -> list[OperatorTime] | None:
        """None: the interpreter's time says nothing about a device."""
        return None


def _zeros(declared: Declared) -> Tensor:
    return torch.zeros([size or 0 for size in declared.shape], dtype=declared.dtype)


def _as_declared(value: Tensor, dtype: str) -> Tensor:
    return value.to(getattr(torch, dtype))


@contextmanager
def _threads(count: int | None) -> Generator[None]:
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
