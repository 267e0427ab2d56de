"""What a ``.pte`` keeps in memory, counted in the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

# The only reader of the format in Python.
from executorch.exir._serialize._program import deserialize_pte_binary
from executorch.exir.schema import ExecutionPlan, Tensor
from executorch.exir.tensor import get_scalar_type, num_bytes_from_shape_and_dtype


def stored(path: Path, state: frozenset[str]) -> dict[str, object]:
    """Facts: ``weight_bytes`` of constants and of what delegates were given, ``state_bytes``, ``first_state_bytes``.

    A state buffer has a place in the memory plan of every method that uses it; methods share that memory, so that
    equal places are one. ``first_state_bytes`` is the file's own part: the values that state starts with.

    Args:
        path: the file.
        state: names of the state buffers.
    """
    file: Any = deserialize_pte_binary(path.read_bytes())
    program = file.program
    given = [data.data for data in program.backend_delegate_data]
    named = file.named_data.buffers if file.named_data is not None else []
    constants = [buffer.storage for buffer in program.constant_buffer]
    places = dict(place for plan in program.execution_plan for place in _places(plan, state))
    return {
        "weight_bytes": sum(map(len, [*constants, *given, *named])),
        "state_bytes": sum(places.values()),
        "first_state_bytes": sum(len(buffer.storage) for buffer in file.mutable_data or ()),
    }


def _places(plan: ExecutionPlan, state: frozenset[str]) -> list[tuple[tuple[int, int], int]]:
    """Where each state tensor of a method lies, and how many bytes it has."""
    found: list[tuple[tuple[int, int], int]] = []
    for value in plan.values:
        tensor = value.val
        if not isinstance(tensor, Tensor) or tensor.extra_tensor_info is None or tensor.allocation_info is None:
            continue
        if tensor.extra_tensor_info.fully_qualified_name in state:
            place = tensor.allocation_info.memory_id, tensor.allocation_info.memory_offset
            size = num_bytes_from_shape_and_dtype(tuple(tensor.sizes), get_scalar_type(tensor.scalar_type))  # type: ignore[arg-type]
            found.append((place, size))
    return found
