"""Where an axis of a view's result lies in its input, if the view keeps the axis whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch.fx import Node
from torch.fx.experimental.symbolic_shapes import statically_known_true

from hycompile.passes.sink_slices.arguments import Axes
from hycompile.rewrite import require


def sizes(node: Node) -> Sequence[Any]:
    """The shape of a node's value; of the first of several."""
    value: Any = node.meta["val"]
    return (value[0] if isinstance(value, (list, tuple)) else value).shape


def kept_by_reshape(node: Node, a: dict[str, Any], axis: int) -> Axes:
    """Elements lie row by row: an axis is kept if as many elements lie in one of its steps before as after."""
    before, after = sizes(a["self"]), sizes(node)
    kept = [
        dim
        for dim, size in enumerate(before)
        if statically_known_true(size == after[axis])
        and statically_known_true(math.prod(before[:dim]) == math.prod(after[:axis]))
    ]
    require(kept, "reshape of {} to {} takes rows apart or together", list(before), list(after))
    return {"self": kept[0]}


def kept_by_permute(node: Node, a: dict[str, Any], axis: int) -> Axes:
    return {"self": a["dims"][axis] % len(a["dims"])}


def kept_by_transpose(node: Node, a: dict[str, Any], axis: int) -> Axes:
    rank = len(sizes(node))
    first, second = a.get("dim0", 0) % rank, a.get("dim1", 1) % rank
    return {"self": {first: second, second: first}.get(axis, axis)}


def kept_by_unsqueeze(node: Node, a: dict[str, Any], axis: int) -> Axes:
    return {"self": axis - (axis > a["dim"] % len(sizes(node)))}


def kept_by_squeeze(node: Node, a: dict[str, Any], axis: int) -> Axes:
    """An axis that squeeze may drop must not become one row."""
    before = sizes(a["self"])
    given: Any = a["dim"]
    asked = {dim % len(before) for dim in ([given] if isinstance(given, int) else given)}
    kept = [dim for dim in range(len(before)) if dim not in asked or not statically_known_true(before[dim] == 1)]
    require(kept[axis] not in asked, "squeeze of axis {} drops the rows' axis once it has one row", kept[axis])
    return {"self": kept[axis]}


def kept_by_expand(node: Node, a: dict[str, Any], axis: int) -> Axes:
    return broadcast_axes(node, {"self": a["self"]}, axis)


def broadcast_axes(node: Node, arguments: dict[str, Any], axis: int) -> Axes:
    """Of operands that broadcast to the result, those that have the axis; one row serves every row."""
    after, found = sizes(node), Axes()
    for name, value in arguments.items():
        if not isinstance(value, Node) or not hasattr(value.meta["val"], "shape"):
            continue
        before = sizes(value)
        place = axis - len(after) + len(before)
        if place < 0 or statically_known_true(before[place] == 1):
            continue
        require(
            statically_known_true(before[place] == after[axis]),
            "{} has {} rows, which may be one for all {}",
            value.name,
            before[place],
            after[axis],
        )
        found[name] = place
    return found


Kept = Callable[[Node, dict[str, Any], int], Axes]
VIEWS: dict[str, Kept] = {
    "aten.reshape": kept_by_reshape,
    "aten.permute": kept_by_permute,
    "aten.transpose.int": kept_by_transpose,
    "aten.t": kept_by_transpose,
    "aten.unsqueeze": kept_by_unsqueeze,
    "aten.squeeze.dim": kept_by_squeeze,
    "aten.squeeze.dims": kept_by_squeeze,
    "aten.expand": kept_by_expand,
}
