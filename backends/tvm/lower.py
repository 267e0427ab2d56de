"""From a Program to a shared library, its weights, its first state and a description of its functions."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tvm
from safetensors.numpy import save as arrays_as_bytes
from safetensors.torch import save as tensors_as_bytes
from tvm.support import cc

from hycompile.backends.tvm.constants import lift_weights
from hycompile.backends.tvm.importer import import_methods
from hycompile.backends.tvm.interface import Interface, MethodInterface
from hycompile.backends.tvm.optimise import optimise
from hycompile.backends.tvm.schedule import Machine, Report, schedule
from hycompile.backends.tvm.target import llvm_target
from hycompile.backends.tvm.toolchain import find_linker, missing_linker
from hycompile.backends.tvm.whole_numbers import take_whole_numbers
from hycompile.errors import ArtifactError, Unsupported
from hycompile.explicit_state import make_explicit, state_of
from hycompile.program import Program
from hycompile.target import Target

LIBRARY, WEIGHTS, STATE, INTERFACE = "model.so", "weights.safetensors", "state.safetensors", "interface.json"


def write_library(program: Program, target: Target, folder: Path) -> tuple[dict[str, str], dict[str, object]]:
    """Compile every method into one library; returns the files by role and facts for the report.

    Raises:
        Unsupported: the front end, LLVM or the linker refuses the program or the target.
    """
    program = program.copy()
    whole = sum((Counter(take_whole_numbers(method.graph)) for method in program.methods.values()), Counter[str]())
    state = state_of(program)
    signatures = {name: make_explicit(method, state) for name, method in program.methods.items()}
    llvm = llvm_target(target)
    with _refusals(program.name):
        module, report = schedule(optimise(import_methods(signatures), llvm), Machine.of(llvm))
        module, weights, order = lift_weights(module)
        executable = tvm.compile(module, target=llvm)
    link(executable, target, folder / LIBRARY)
    names = {content: f"weight_{index}" for index, content in enumerate(weights)}
    methods = {
        name: MethodInterface(
            inputs=signature.input_types,
            state_in=signature.state_in,
            state_out=signature.state_out,
            outputs=signature.outputs,
            weights=tuple(names[content] for content in order[name]),
        )
        for name, signature in signatures.items()
    }
    (folder / WEIGHTS).write_bytes(arrays_as_bytes({names[content]: value for content, value in weights.items()}))
    (folder / INTERFACE).write_text(Interface(methods=methods).model_dump_json(indent=2) + "\n")
    facts = _facts(llvm, report, len(methods), folder / LIBRARY)
    facts |= {
        "weight_bytes": sum(value.nbytes for value in weights.values()),
        "state_bytes": sum(value.nbytes for value in state.values()),
        **({"legalised": dict(whole)} if whole else {}),
    }
    files = {"model": LIBRARY, "weights": WEIGHTS, "interface": INTERFACE}
    if state:
        first = {name: value.detach().clone().contiguous() for name, value in state.items()}
        (folder / STATE).write_bytes(tensors_as_bytes(first))
        files["state"] = STATE
    return files, facts


@contextmanager
def _refusals(name: str) -> Generator[None]:
    """TVM states what its passes cannot do by these errors, whichever pass it is."""
    try:
        yield
    except (RuntimeError, IndexError, ValueError, TypeError) as error:
        raise Unsupported(
            f"program {name!r}",
            f"TVM's compiler fails ({type(error).__name__}: {_first_line(error)})",
            "use another runtime, and report the operator it names",
        ) from error


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")


def link(executable: Any, target: Target, path: Path) -> None:
    """Write the executable as a shared library for the device.

    Raises:
        Unsupported: there is no linker for the device, or it fails.
        OSError: the disk is full.
    """
    linker = find_linker(target)
    if linker is None:
        raise Unsupported(f"triple {target.triple!r}", "cannot be linked for here", str(missing_linker(target)))
    try:
        executable.export_library(str(path), fcompile=cc.cross_compiler(linker, options=["-shared", "-fPIC"]))
    except RuntimeError as error:
        path.unlink(missing_ok=True)
        if os.strerror(errno.ENOSPC) in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise Unsupported(
            f"linker {os.fspath(linker)!r}",
            f"fails ({str(error).strip().splitlines()[-1]})",
            "run it by hand on an empty C file to see what it lacks",
        ) from error
    if not path.is_file():
        raise ArtifactError(f"{path}", "the linker left no library", "check the free space of the disk")


def _facts(llvm: Any, report: Report, functions: int, library: Path) -> dict[str, object]:
    return {
        "triple": str(llvm.attrs["mtriple"]),
        "mcpu": str(llvm.attrs["mcpu"]),
        "relax_functions": functions,
        "tensor_functions": sum(report.scheduled.values()) + sum(report.left_alone.values()),
        "scheduled": dict(report.scheduled),
        "left_alone": dict(report.left_alone),
        "library_bytes": library.stat().st_size,
    }
