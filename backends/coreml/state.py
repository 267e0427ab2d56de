"""State in a package: a conversion that loses a write is refused, and what is kept is counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from typing import Any

from hycompile.backends.coreml.interpreter.machine import declared, is_state
from hycompile.errors import Unsupported


def refuse_lost_state(method: str, function: Any, states: Mapping[str, str]) -> None:
    """Hold a function of the finished package against the method: every write still there.

    Args:
        method: name of the method.
        function: its MIL function.
        states: Core ML's name of each state the method writes, to the Program's name of the buffer.

    Raises:
        Unsupported: a write is gone.
    """
    written = {
        operation.inputs["state"].name
        for operation in function.operations
        if operation.op_type == "coreml_update_state"
    }
    for name, buffer in states.items():
        if name not in written:
            raise Unsupported(
                f"state {buffer!r} of method {method!r}",
                "coremltools dropped its write",
                "report it with the model; another runtime may keep it",
            )


def state_bytes(functions: Iterable[tuple[Any, Mapping[str, str]]]) -> int:
    """Bytes of the states that functions declare or are given; functions of one package share a state of one name.

    Args:
        functions: each with its inputs that stand for state, and the names of these buffers.
    """
    sizes: dict[str, int] = {}
    for function, given in functions:
        for name, variable in dict(function.inputs).items():
            if is_state(variable) or name in given:
                found = declared(variable, name)
                sizes[given.get(name, name)] = prod(size or 0 for size in found.shape) * found.dtype.itemsize
    return sum(sizes.values())
