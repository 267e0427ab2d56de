"""From a Program to ExecuTorch's edge dialect and its delegates, with one kind of error for all that can go wrong."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from executorch.exir import EdgeCompileConfig, EdgeProgramManager
from executorch.exir.backend.partitioner import Partitioner
from executorch.exir.program._program import (
    _gen_edge_manager_for_partitioners,  # pyright: ignore[reportPrivateUsage] - the first half of the public function
)

from hycompile.backends.executorch.lean import lean
from hycompile.backends.executorch.legalise import legalise
from hycompile.backends.executorch.partitioners import partitioners
from hycompile.backends.executorch.reasons import why_not
from hycompile.errors import Unsupported
from hycompile.float16 import to_precision
from hycompile.program import Program
from hycompile.target import Target


@dataclass(frozen=True)
class Converted:
    """A program in edge dialect, nothing delegated yet.

    Args:
        program: in the target's precision and legal form, which is what was exported.
        manager: its methods in edge dialect; what the partitioners take whole is not decomposed.
        partitioners: new ones for every method, by name, in the order they are asked.
        kept_in_fp32: of a float16 program, the nodes that compute in float32, by method.
    """

    program: Program
    manager: EdgeProgramManager
    partitioners: dict[str, list[Partitioner]]
    kept_in_fp32: dict[str, list[str]]


def convert(program: Program, target: Target) -> Converted:
    """Export and decompose every method, or take over what :func:`convert_ahead` made of the same program.

    Raises:
        Unsupported: with the first line of what ExecuTorch said.
    """
    return _ahead.pop(_key(program, target), None) or _convert(program, target)


def convert_ahead(program: Program, target: Target) -> Converted:
    """The same, kept for the lowering that usually follows: conversion is half of its time."""
    _ahead.clear()
    return _ahead.setdefault(_key(program, target), _convert(program, target))


def delegate(converted: Converted, target: Target) -> EdgeProgramManager:
    """Hand every partitioner what it takes; nodes that were refused remember why.

    Raises:
        Unsupported: with the first line of what ExecuTorch or a delegate's compiler said.
    """
    manager, asked = converted.manager, converted.partitioners
    with _toolchain(converted.program, target), why_not():
        for turn in range(max(map(len, asked.values()), default=0)):
            manager = manager.to_backend({name: each[turn] for name, each in asked.items()})
    return manager


# At most one program's conversion.
_ahead: dict[tuple[str, str], Converted] = {}


def _key(program: Program, target: Target) -> tuple[str, str]:
    return program.digest, target.model_dump_json()


def _convert(program: Program, target: Target) -> Converted:
    precise = to_precision(program, target.precision)
    ready = precise.program.copy()
    legalise(ready, target.executorch)
    asked = {name: partitioners(ready, target) for name in ready.methods}
    # Edge validity means "core ATen only", narrower than what the runtime has kernels for: callers check kernels.
    config = EdgeCompileConfig(_check_ir_validity=False)
    exported = {name: method.export() for name, method in ready.methods.items()}
    with _toolchain(ready, target):
        manager = _gen_edge_manager_for_partitioners(asked, exported, config, None)
    return Converted(ready, manager, asked, precise.kept)


@contextmanager
def _toolchain(program: Program, target: Target) -> Generator[None]:
    # coremltools draws its progress bars on Python's standard error whatever its logging says.
    bars = "coreml" in target.executorch.partitioners
    progress = contextlib.redirect_stderr(io.StringIO()) if bars else contextlib.nullcontext()
    with refusing(program), torch.no_grad(), lean(), progress:
        yield


@contextmanager
def refusing(program: Program) -> Generator[None]:
    """Turns whatever the toolchain raises inside into Unsupported."""
    try:
        yield
    except Exception as error:  # ExecuTorch's pass manager raises no narrower class
        text = next((line for line in str(error).splitlines() if line.strip()), "no message")
        raise Unsupported(
            f"program {program.name!r}",
            f"ExecuTorch cannot lower it ({type(error).__name__}: {text})",
            "see its obstacles",
        ) from error
