"""What selects rows: slices and selects with constant bounds, and indices known only at run time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import Graph, Node
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.fx.node import map_arg

from hycompile.builder import Value
from hycompile.schema import bind, is_call

_END = torch.iinfo(torch.int64).max


@dataclass(frozen=True)
class Selection:
    """Some rows of an axis, the same for every tensor that has this axis.

    Args:
        count: how many rows.
        start: the first; counted from the end if negative, as only an axis of dynamic size has it.
        end: one past the last.
        index: the tensor [count] that names the rows at run time, in place of ``start`` and ``end``.
        wraps: whether ``index`` may count from the end.
    """

    count: int
    start: int = 0
    end: int = _END
    index: Node | None = None
    wraps: bool = False

    def rows(self, call: Callable[..., Value], value: Value, axis: int) -> Value:
        """These rows of ``value``, built with ``call``."""
        if self.index is None:
            return call("aten.slice.Tensor", value, axis, self.start, self.end)
        if self.wraps:
            return call("aten.index.Tensor", value, [*[None] * axis, Value(self.index)])
        return call("aten.index_select", value, axis, Value(self.index))


@dataclass(frozen=True)
class Selected:
    """A node that selects rows of ``source`` along ``axis``; ``keeps_axis`` is False for ``aten.select``."""

    source: Node
    axis: int
    selection: Selection
    keeps_axis: bool = True


def selected_rows(node: Node) -> Selected | None:
    """What ``node`` selects, if it is a selection of fewer rows than there are, known in number."""
    found = None
    if is_call(node, "aten.slice.Tensor"):
        found = _slice(node, bind(node))
    elif is_call(node, "aten.select.int"):
        found = _select(bind(node))
    elif is_call(node, "aten.index_select"):
        a = bind(node)
        found = _indexed(a["self"], a["dim"], a["index"], wraps=False)
    elif is_call(node, "aten.index.Tensor"):
        a = bind(node)
        given = [dim for dim, index in enumerate(a["indices"]) if index is not None]
        found = _indexed(a["self"], given[0], a["indices"][given[0]], wraps=True) if len(given) == 1 else None
    if found is None:
        return None
    size = found.source.meta["val"].shape[found.axis]
    fewer = statically_known_true(found.selection.count < size) or not isinstance(size, int)
    return found if fewer else None


def _slice(node: Node, a: dict[str, Any]) -> Selected | None:
    axis = a["dim"] % a["self"].meta["val"].dim()
    count = node.meta["val"].shape[axis]
    if a["step"] != 1 or not isinstance(count, int) or count == 0:
        return None
    size = a["self"].meta["val"].shape[axis]
    start = _from_end(0 if a["start"] is None else a["start"], size)
    if start is None:
        return None
    end = start + count
    return Selected(a["self"], axis, Selection(count, start, _END if end == 0 else end))


def _select(a: dict[str, Any]) -> Selected | None:
    axis = a["dim"] % a["self"].meta["val"].dim()
    start = _from_end(a["index"], a["self"].meta["val"].shape[axis])
    if start is None:
        return None
    end = start + 1
    return Selected(a["self"], axis, Selection(1, start, _END if end == 0 else end), keeps_axis=False)


def _from_end(position: Any, size: Any) -> int | None:
    """One number for each row: from the start where the size is known, else as given, ``size - 1`` as -1."""
    if isinstance(position, Node):
        position = position.meta["val"]
    if isinstance(size, int) and isinstance(position, int):
        return max(position + size, 0) if position < 0 else position
    if isinstance(position, int):
        return position
    return -1 if statically_known_true(position == size - 1) else None


def _indexed(source: Node, axis: int, index: Node, wraps: bool) -> Selected | None:
    value = index.meta["val"]
    if value.dim() != 1 or value.dtype not in (torch.int64, torch.int32) or not isinstance(value.shape[0], int):
        return None
    axis %= source.meta["val"].dim()
    return Selected(source, axis, Selection(value.shape[0], index=index, wraps=wraps))


def first_equal(graph: Graph) -> dict[Node, Node]:
    """For each node the first one that computes the same: the last row's index is often computed at each use."""
    first: dict[str, Node] = {}
    equal: dict[Node, Node] = {}
    for node in graph.nodes:
        random = torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
        if node.op != "call_function" or random:
            equal[node] = node
            continue
        arguments = map_arg((node.args, node.kwargs), lambda argument: equal[argument])
        equal[node] = first.setdefault(f"{node.target} {arguments}", node)
    return equal
