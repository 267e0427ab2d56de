"""State in a ``.pte``: its initial values are kept, and a lowering that loses a write is refused."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from executorch.exir import EdgeProgramManager
from executorch.exir.emit._emitter import _Emitter  # pyright: ignore[reportPrivateUsage] - the one that writes files

from hycompile.backends.executorch.operators import delegate_calls
from hycompile.errors import Unsupported
from hycompile.program import Program


def keep_initial_values(edge: EdgeProgramManager, state: frozenset[str]) -> None:
    """Mark state buffers so that their values are serialised; by default ExecuTorch drops them as meaningless."""
    for name in edge.methods:
        exported = edge.exported_program(name)
        buffers = exported.graph_signature.inputs_to_buffers
        for node in exported.graph.find_nodes(op="placeholder"):
            if buffers.get(str(node.target)) in state:
                node.meta["et_init_buffer"] = True


@contextmanager
def own_initial_values() -> Generator[None]:
    """Inside, files are written in which no state starts with a constant's place for its value.

    ExecuTorch 1.5.1 looks for the bytes of named state among constants (``_emitter.py``), and takes the place of an
    equal one for a place among the first values of state: such a file cannot be
    loaded, or state starts with another value.
    """
    with patch.object(_Emitter, "_tensor_spec_to_evalue", _apart_from_constants):
        yield


_to_evalue = _Emitter._tensor_spec_to_evalue  # pyright: ignore[reportPrivateUsage]


def _apart_from_constants(emitter: Any, spec: Any, constant_tag: str | None = None) -> Any:
    if not spec.const or spec.mem_id is None or spec.extra_tensor_info is None:
        return _to_evalue(emitter, spec, constant_tag)
    with patch.object(emitter.program_state, "cached_spec_hash_values", {}):
        return _to_evalue(emitter, spec, constant_tag)


def refuse_lost_state(program: Program, edge: EdgeProgramManager, state: frozenset[str], owned: bool) -> None:
    """Hold the lowered program against the original: every write still there, no state inside a delegate as a constant.

    Args:
        program: the original.
        edge: the same with delegates in place.
        state: names of the buffers any method writes.
        owned: whether a delegate may keep the state itself (Core ML's states).

    Raises:
        Unsupported: a write is gone, or a delegate froze a state buffer.
    """
    for name, method in program.methods.items():
        exported = edge.exported_program(name)
        inside = {
            buffer
            for call in delegate_calls(exported.graph_module)
            for buffer in call.original_module.graph_signature.inputs_to_buffers.values()
        }
        kept = set(exported.graph_signature.buffers_to_mutate.values()) | (inside if owned else set())
        lost = [buffer for buffer in method.mutated() if buffer not in kept]
        frozen = [] if owned else sorted(state & inside)
        for buffer in [*lost, *frozen]:
            raise Unsupported(
                f"state {buffer!r} of method {name!r}",
                "a delegate would freeze its first value and lose its writes",
                "lower with executorch.partitioners = ['xnnpack'], or keep the state outside the delegated operators",
            )
