"""From a Program to ``model.pte``."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import torch
from executorch.exir import EdgeProgramManager, ExecutorchBackendConfig, ExecutorchProgramManager
from executorch.exir.passes import MemoryPlanningPass

from hycompile.backend import Lowered, Obstacle
from hycompile.backends.executorch.dynamic import unbounded_sizes
from hycompile.backends.executorch.edge import convert, delegate, refusing
from hycompile.backends.executorch.lean import lean
from hycompile.backends.executorch.operators import compute_operators
from hycompile.backends.executorch.partitioners import state_names, takes_over_state
from hycompile.backends.executorch.rows import refused_weights
from hycompile.backends.executorch.state import keep_initial_values, own_initial_values, refuse_lost_state
from hycompile.backends.executorch.storage import stored
from hycompile.backends.executorch.survey import account, without_kernel
from hycompile.errors import Unsupported
from hycompile.program import Program
from hycompile.target import Target


def lower(program: Program, target: Target, folder: Path) -> Lowered:
    """Write ``model.pte`` with every method of the program; see :meth:`Executorch.lower`."""
    _refuse(unbounded_sizes(program) + refused_weights(program))
    converted = convert(program, target)
    program, edge = converted.program, delegate(converted, target)
    owned = "coreml" in target.executorch.partitioners and takes_over_state(program)
    refuse_lost_state(program, edge, state_names(program), owned)
    outside = [node for name in edge.methods for node in compute_operators(edge.exported_program(name).graph)]
    _refuse(without_kernel(outside, target))
    facts = account(edge, target).facts() | {"partitioners": list(target.executorch.partitioners)}
    if target.precision == "fp16":
        facts["kept_in_fp32"] = converted.kept_in_fp32
        facts["casts"] = "the file takes and gives float16; a session casts at its edge to the types of the manifest"
    emitted = _emit(edge, program)
    with (folder / "model.pte").open("wb") as stream:
        emitted.write_to_file(stream)
    facts |= stored(folder / "model.pte", state_names(program))
    return Lowered({"model": "model.pte"}, facts, _tools(target))


def _emit(edge: EdgeProgramManager, program: Program) -> ExecutorchProgramManager:
    """Plan memory and serialise; state keeps its names, its initial values, and one place for all methods."""
    state = state_names(program)
    keep_initial_values(edge, state)
    shared = bool(state) and len(program.methods) > 1
    config = ExecutorchBackendConfig(
        memory_planning_pass=MemoryPlanningPass(share_mutable_buffers=shared),
        emit_mutable_buffer_names=bool(state),
        # A slot written into a cache is written there, not into a copy of all slots that is copied back.
        run_reinplace_pass=bool(state),
    )
    with refusing(program), torch.no_grad(), lean(), own_initial_values():
        return edge.to_executorch(config)


def _refuse(obstacles: list[Obstacle]) -> None:
    for obstacle in obstacles:
        where = f" ({obstacle.where})" if obstacle.where else ""
        raise Unsupported(f"{obstacle.operator}{where}", obstacle.reason, obstacle.way_out)


def _tools(target: Target) -> dict[str, str]:
    packages = ["torch", "executorch", *(["coremltools"] if "coreml" in target.executorch.partitioners else [])]
    return {package: version(package) for package in packages}
