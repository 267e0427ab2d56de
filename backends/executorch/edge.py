"""From a Program to ExecuTorch's edge dialect, with one kind of error for all that can go wrong on the way."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Generator, Mapping
from contextlib import contextmanager

import torch
from executorch.exir import EdgeCompileConfig, EdgeProgramManager, to_edge_transform_and_lower
from executorch.exir.backend.partitioner import Partitioner

from hycompile.backends.executorch.legalise import legalise
from hycompile.backends.executorch.reasons import why_not
from hycompile.errors import Unsupported
from hycompile.float16 import to_precision
from hycompile.program import Program
from hycompile.target import Target


def prepared(program: Program, target: Target) -> Program:
    """A copy in the target's precision, rid of unused tensors and of what ExecuTorch gets wrong."""
    ready = to_precision(program, target.precision).program.copy()
    legalise(ready)
    return ready


def to_edge(program: Program, target: Target, partitioners: Mapping[str, list[Partitioner]]) -> EdgeProgramManager:
    """Export, decompose, partition and delegate every method; nodes that were refused remember why.

    Raises:
        Unsupported: with the first line of what ExecuTorch said.
    """
    exported = {name: method.export() for name, method in program.methods.items()}
    # Edge validity means "core ATen only", narrower than what the runtime has kernels for: callers check kernels.
    config = EdgeCompileConfig(_check_ir_validity=False)
    # coremltools draws its progress bars on Python's standard error whatever its logging says.
    bars = "coreml" in target.executorch.partitioners
    progress = contextlib.redirect_stderr(io.StringIO()) if bars else contextlib.nullcontext()
    with refusing(program), torch.no_grad(), why_not(), progress:
        return to_edge_transform_and_lower(exported, partitioner=dict(partitioners), compile_config=config)


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
