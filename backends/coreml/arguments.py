"""State as arguments: a package that is given the state in each call and returns the state after it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hycompile.backends.coreml.convert import Interface
from hycompile.explicit_state import Signature, make_explicit, state_of
from hycompile.program import Method, Program


@dataclass(frozen=True)
class StateArguments:
    """What a method takes behind its inputs, and returns behind its outputs: names of buffers."""

    taken: tuple[str, ...]
    returned: tuple[str, ...]

    def named(self, interface: Interface) -> dict[str, dict[str, str]]:
        """The last of a function's inputs and outputs, by name, to the buffers that they stand for."""
        inputs, outputs = interface.inputs, interface.outputs
        return {
            "inputs": dict(zip(inputs[len(inputs) - len(self.taken) :], self.taken, strict=True)),
            "outputs": dict(zip(outputs[len(outputs) - len(self.returned) :], self.returned, strict=True)),
        }


def with_arguments(program: Program) -> tuple[Program, dict[str, StateArguments]]:
    """A Program whose methods change nothing, and by method what they take and return instead.

    Raises:
        Unsupported: a constant is a view of state, or a write is to part of a buffer.
    """
    state = state_of(program)
    explicit = {name: make_explicit(method, state) for name, method in program.methods.items()}
    methods = {name: _method(found) for name, found in explicit.items()}
    arguments = {name: StateArguments(found.state_in, found.state_out) for name, found in explicit.items()}
    return replace(program, methods=methods), arguments


def _method(found: Signature) -> Method:
    """coremltools takes inputs whose dimensions lie in memory in their order, and a buffer may be a transposed one."""
    args = tuple(value.contiguous() for value in found.args)
    return Method(found.module, args, dynamic_shapes=found.dynamic_shapes)
