"""The table of ML Program operators the interpreter knows, filled by a decorator on one function per operator."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

Value = Tensor | str
Result = Tensor | tuple[Tensor, ...]
Function = TypeVar("Function", bound=Callable[..., Result])


@dataclass(frozen=True)
class Operator:
    """One operator.

    Args:
        run: takes the operator's MIL inputs by name (tensors, strings, lists of either) and returns its outputs.
        parameters: the input names ``run`` understands.
        moves: only rearranges, selects or stores values: 16-bit inputs need no widening, outputs no rounding.
    """

    run: Callable[..., Result]
    parameters: frozenset[str]
    moves: bool


OPERATORS: dict[str, Operator] = {}


def operator(*names: str, moves: bool = False) -> Callable[[Function], Function]:
    """Register a function as the meaning of the MIL operators ``names``, for every opset version of them."""

    def register(function: Function) -> Function:
        parameters = frozenset(inspect.signature(function).parameters)
        for name in names:
            if name in OPERATORS:
                raise ValueError(f"operator {name!r} is registered twice")
            OPERATORS[name] = Operator(function, parameters, moves)
        return function

    return register


def ints(values: Tensor | Sequence[Tensor]) -> list[int]:
    """The integers of a MIL vector (or of a tuple of scalars)."""
    if isinstance(values, Tensor):
        return [int(value) for value in values.reshape(-1).tolist()]
    return [int(value) for value in values]


def bools(values: Tensor | None, count: int) -> list[bool]:
    """A MIL mask; all false where it was left out."""
    return [False] * count if values is None else [bool(value) for value in values.reshape(-1).tolist()]


def channelwise(vector: Tensor, like: Tensor, axis: int = 1) -> Tensor:
    """``vector`` [C], or a scalar, shaped to broadcast along ``axis`` of ``like``."""
    shape = [1] * like.dim()
    if vector.dim():
        shape[axis] = -1
    return vector.reshape(shape)
