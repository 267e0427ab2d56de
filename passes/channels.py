"""Where the channel axis goes through operators that only move data."""

from __future__ import annotations

import math
from typing import Any

from torch.fx import Node
from torch.fx.experimental.symbolic_shapes import statically_known_true

from hycompile.schema import bind, is_call

_INSERTED = -1
_PERMUTES = ("aten.permute", "aten.transpose.int", "aten.unsqueeze", "aten.squeeze.dim", "aten.squeeze.dims")
MOVES = ("aten.reshape", *_PERMUTES)
"""Operators that give the same elements another place or shape."""


def axis_before(node: Node, axis: int) -> int | None:
    """The axis of the input that is ``axis`` of the output; None unless ``node`` moves data and keeps it whole."""
    if is_call(node, "aten.reshape"):
        return _matching_axis(_shape(node), _shape(node.args[0]), axis)
    order = _order(node)
    return order[axis] if order is not None and order[axis] != _INSERTED else None


def axis_after(node: Node, axis: int) -> int | None:
    """The axis of the output that is ``axis`` of the input; None unless ``node`` moves data and keeps it whole."""
    if is_call(node, "aten.reshape"):
        return _matching_axis(_shape(node.args[0]), _shape(node), axis)
    order = _order(node)
    return order.index(axis) if order is not None and axis in order else None


def _order(node: Node) -> list[int] | None:
    """Input axis per output axis, for operators that permute, insert or remove axes."""
    if not is_call(node, *_PERMUTES):
        return None
    a, rank = bind(node), len(_shape(node))
    if is_call(node, "aten.permute"):
        return [dim % rank for dim in a["dims"]]
    if is_call(node, "aten.transpose.int"):
        order = list(range(rank))
        first, second = a["dim0"] % rank, a["dim1"] % rank
        order[first], order[second] = order[second], order[first]
        return order
    if is_call(node, "aten.unsqueeze"):
        order = list(range(rank - 1))
        order.insert(a["dim"] % rank, _INSERTED)
        return order
    before = _shape(node.args[0])
    dims = a["dim"] if isinstance(a["dim"], (list, tuple)) else [a["dim"]]
    gone = {dim % len(before) for dim in dims if statically_known_true(before[dim] == 1)}
    return [index for index in range(len(before)) if index not in gone]


def _matching_axis(source: tuple[Any, ...], result: tuple[Any, ...], axis: int) -> int | None:
    """A reshape keeps an axis whole if its size and the number of elements before it stay the same."""
    before = math.prod(source[:axis])
    for candidate, size in enumerate(result):
        if statically_known_true(size == source[axis]) and statically_known_true(
            math.prod(result[:candidate]) == before
        ):
            return candidate
    return None


def _shape(node: Any) -> tuple[Any, ...]:
    return tuple(node.meta["val"].shape)
