"""Runs one function of an ML Program in torch, operator by operator, checking every shape it declares.

Sixteen-bit arithmetic: each operator takes its inputs in 32 bits, computes in 32 bits and rounds its result to 16 bits
once. That is the arithmetic of an ideal device; a real one may also accumulate in 16 bits inside an operator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hycompile.backends.coreml.interpreter.registry import OPERATORS, Operator, Value
from hycompile.backends.coreml.interpreter.values import constant, declared_shape, dtype_name, torch_dtype
from hycompile.errors import ArtifactError, HycompileError, Unsupported

Argument = Any
"""A MIL variable, or a list of them."""


@dataclass(frozen=True)
class Declared:
    """Type of one function input or output: MIL's name, sizes (None: any) and the torch dtype that holds it."""

    name: str
    shape: tuple[int | None, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class _Step:
    operation: Any
    operator: Operator
    last_uses: tuple[Any, ...]

    @property
    def where(self) -> str:
        return f"operator {self.operation.op_type} {self.operation.name!r}"


class Machine:
    """One function, ready to run.

    Args:
        function: a ``coremltools`` MIL function, as ``milproto`` loads it.
        name: its name, for messages.

    Raises:
        Unsupported: it holds operators the interpreter lacks; all are named.
    """

    def __init__(self, function: Any, name: str) -> None:
        self.name = name
        self._function = function
        self._constants: dict[Any, Value] = {}
        self._inputs: dict[str, Any] = dict(function.inputs)
        self.states = {key: declared(v, key) for key, v in self._inputs.items() if is_state(v)}
        self.inputs = {key: declared(v, key) for key, v in self._inputs.items() if not is_state(v)}
        self.outputs = [declared(variable, variable.name) for variable in function.outputs]
        self._steps = self._prepare()

    @property
    def operations(self) -> list[str]:
        """Operator names in order, constants left out."""
        return [str(op.op_type) for op in self._function.operations if op.op_type != "const"]

    def run(self, inputs: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[Tensor]:
        """Execute on inputs by name; ``state`` holds a tensor for each state and is written in place.

        Raises:
            ArtifactError: an input does not fit, or a result is not what the package declares.
        """
        values: dict[Any, Value] = {}
        for name, expected in self.inputs.items():
            values[self._inputs[name]] = _fitted(inputs[name], expected)
        for name in self.states:
            values[self._inputs[name]] = state[name]
        with torch.inference_mode():
            for step in self._steps:
                self._execute(step, values)
                for variable in step.last_uses:
                    values.pop(variable, None)
        results = [values[v] if v in values else self._constants[v] for v in self._function.outputs]
        return [_narrowed(result, e.dtype) for result, e in zip(results, self.outputs, strict=True)]  # type: ignore[arg-type]

    def _prepare(self) -> list[_Step]:
        operations = list(self._function.operations)
        unknown = sorted({f"{op.op_type} (at {op.name!r})" for op in operations if not _known(op)})
        if unknown:
            raise Unsupported(
                f"function {self.name!r}",
                f"operators the interpreter lacks: {', '.join(unknown)}",
                "run it on an Apple device",
            )
        steps: list[_Step] = []
        for operation in operations:
            if operation.op_type == "const":
                self._constants[operation.outputs[0]] = constant(operation.outputs[0])
            elif operation.op_type.startswith("constexpr_"):
                folded: dict[Any, Value] = {}
                self._execute(_Step(operation, OPERATORS[operation.op_type], ()), folded)
                self._constants |= {key: _widened(value) for key, value in folded.items()}
            else:
                steps.append(_Step(operation, OPERATORS[operation.op_type], ()))
        return _with_last_uses(steps, set(self._function.outputs))

    def _execute(self, step: _Step, values: dict[Any, Value]) -> None:
        operation = step.operation
        arguments = {
            name: self._argument(step, given, values) for name, given in operation.inputs.items() if given is not None
        }
        unknown = arguments.keys() - step.operator.parameters
        if unknown:
            raise Unsupported(step.where, f"the interpreter does not know its inputs {sorted(unknown)}", "report it")
        try:
            result = step.operator.run(**arguments)
        except (RuntimeError, IndexError) as error:
            raise ArtifactError(
                step.where, f"cannot be computed ({error})", "the package is inconsistent: rebuild it"
            ) from error
        except HycompileError as error:
            raise type(error)(f"{step.where}: {error.seen}", error.reason, error.way_out) from error
        results = result if isinstance(result, tuple) else (result,)
        if len(results) != len(operation.outputs):
            raise ArtifactError(
                step.where, f"gives {len(results)} results, declares {len(operation.outputs)}", "rebuild it"
            )
        for variable, tensor in zip(operation.outputs, results, strict=True):
            values[variable] = _checked(tensor, variable, step.where)

    def _argument(self, step: _Step, given: Argument, values: dict[Any, Value]) -> Value | list[Value]:
        if isinstance(given, Sequence) and not isinstance(given, str):
            return [self._value(step, variable, values) for variable in given]
        return self._value(step, given, values)

    def _value(self, step: _Step, variable: Any, values: dict[Any, Value]) -> Value:
        value = values[variable] if variable in values else self._constants[variable]
        return value if step.operator.moves else _widened(value)


def declared(variable: Any, name: str) -> Declared:
    """The declared type of a variable, a state's being that of what it wraps."""
    if is_state(variable):
        from coremltools.converters.mil.mil import types

        wrapped = variable.sym_type.wrapped_type()
        dtype = torch_dtype(str(types.builtin_to_string(wrapped.get_primitive())))
        return Declared(name, tuple(int(size) for size in wrapped.get_shape()), dtype)
    return Declared(name, declared_shape(variable), torch_dtype(dtype_name(variable)))


def is_state(variable: Any) -> bool:
    """Whether a variable is a state, not a tensor."""
    from coremltools.converters.mil.mil import types

    return bool(types.is_state(variable.sym_type))


def _known(operation: Any) -> bool:
    return operation.op_type == "const" or (operation.op_type in OPERATORS and not operation.blocks)


def _with_last_uses(steps: list[_Step], kept: set[Any]) -> list[_Step]:
    """Name at each step the intermediate values nobody needs after it, so that they can be dropped."""
    seen: set[Any] = set(kept)
    result: list[_Step] = []
    for step in reversed(steps):
        used: list[Any] = list(step.operation.outputs)
        for given in step.operation.inputs.values():
            used += list(given) if isinstance(given, list | tuple) else [given]
        fresh = tuple(variable for variable in dict.fromkeys(used) if variable is not None and variable not in seen)
        seen.update(fresh)
        result.append(_Step(step.operation, step.operator, fresh))
    return result[::-1]


def _widened(value: Value) -> Value:
    return value.float() if isinstance(value, Tensor) and value.dtype == torch.float16 else value


def _narrowed(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.to(dtype)


def _matches(shape: Sequence[int], expected: tuple[int | None, ...]) -> bool:
    return len(shape) == len(expected) and all(e is None or e == n for n, e in zip(shape, expected, strict=True))


def _fitted(value: Tensor, expected: Declared) -> Tensor:
    """An input in the declared type; a scalar becomes the one-element vector Core ML has instead."""
    if value.dim() == 0 and expected.shape == (1,):
        value = value.reshape(1)
    if not _matches(value.shape, expected.shape):
        raise ArtifactError(
            f"input {expected.name!r} of shape {tuple(value.shape)}",
            f"the package declares {expected.shape}",
            "give that shape",
        )
    if (
        not expected.dtype.is_floating_point
        and expected.dtype != torch.bool
        and value.numel()
        and value.dtype != torch.bool
    ):
        limits = torch.iinfo(expected.dtype)
        if int(value.min()) < limits.min or int(value.max()) > limits.max:
            raise ArtifactError(
                f"input {expected.name!r}", f"holds values beyond {expected.dtype}", "Core ML has no wider integers"
            )
    return value.to(expected.dtype)


def _checked(value: Tensor, variable: Any, where: str) -> Tensor:
    """A result in its declared type, once its kind and shape are seen to be as declared."""
    expected = declared(variable, variable.name)
    same_kind = value.is_floating_point() == expected.dtype.is_floating_point and (
        (value.dtype == torch.bool) == (expected.dtype == torch.bool)
    )
    if not same_kind:
        raise ArtifactError(
            where, f"computes {value.dtype}, declares {expected.dtype}", "the package is inconsistent: rebuild it"
        )
    if not _matches(value.shape, expected.shape):
        raise ArtifactError(
            where,
            f"computes shape {tuple(value.shape)}, declares {expected.shape}",
            "the package is inconsistent: rebuild it",
        )
    return value.to(expected.dtype)
