"""Computes the rows that are needed instead of all: the rewrite that follows from the demand analysis."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch.fx import GraphModule, Node

from hycompile.builder import Builder, Value
from hycompile.passes.sink_slices.arguments import map_arguments
from hycompile.passes.sink_slices.demand import Demand, Narrowed, Rows
from hycompile.passes.sink_slices.selection import Selected, Selection
from hycompile.passes.sink_slices.views import sizes
from hycompile.rewrite import erase_dead
from hycompile.schema import bind, is_call, operator_name

NAME = "sink_slices"
# The argument that holds the shape of the result.
_SIZES = {"aten.reshape": "shape", "aten.expand": "size"}


def narrow(module: GraphModule, demand: Demand) -> int:
    """Rewrite ``module`` in place; returns how many operators compute fewer rows than before."""
    rewriting = _Narrowing(module)
    for node in list(module.graph.nodes):
        if node in demand.narrowed:
            rewriting.compute_fewer(node, demand.narrowed[node])
        elif node in demand.selected:
            rewriting.replace_selection(node, demand.selected[node])
    for node in demand.selected:
        if not node._erased:
            erase_dead(module, node)
    module.graph.lint()
    module.recompile()
    return len(demand.narrowed)


class _Narrowing:
    """Builds in graph order, so that what a node needs is there before it."""

    def __init__(self, module: GraphModule) -> None:
        self.module = module
        self.fewer: dict[Node, Value] = {}
        self.cut: dict[tuple[Node, Rows], Value] = {}
        self.last: dict[Selection, Value] = {}

    def compute_fewer(self, node: Node, narrowed: Narrowed) -> None:
        """The node again, from the rows it needs of its inputs."""
        rows = narrowed.rows
        args, kwargs = map_arguments(
            node, narrowed.axes, lambda value, axis: value if axis is None else self._rows_of(value, axis, rows, node)
        )
        shape_name = _SIZES.get(operator_name(node))
        if shape_name is not None:
            shape = list(bind(node)[shape_name])
            shape[rows.axis] = rows.selection.count
            args, kwargs = [args[0], shape], {}
        elif is_call(node, "aten.scaled_dot_product_attention") and bind(node)["is_causal"]:
            args = [*args[:3], self._causal_mask(node, rows.selection)]
            kwargs = {name: value for name, value in kwargs.items() if name in ("scale", "enable_gqa")}
        self.fewer[node] = self._call(node, rows.selection, node.target, *args, **kwargs)

    def replace_selection(self, node: Node, selected: Selected) -> None:
        """A selection of what has only its rows left is that value itself."""
        value = self.fewer.get(selected.source)
        if value is not None and not selected.keeps_axis:
            value = self._call(node, selected.selection, "aten.select.int", value, selected.axis, 0)
        elif value is None and selected.keeps_axis:
            value = self.cut.setdefault((selected.source, Rows(selected.axis, selected.selection)), Value(node))
        if value is not None and value.node is not node:
            node.replace_all_uses_with(value.node)

    def _rows_of(self, value: Node, axis: int, rows: Rows, user: Node) -> Value:
        """What ``user`` needs of ``value``: computed anew, or selected where others need more of it."""
        if value in self.fewer:
            return self.fewer[value]
        key = value, Rows(axis, rows.selection)
        if key not in self.cut:
            self.cut[key] = rows.selection.rows(partial(self._call, user, rows.selection), Value(value), axis)
        return self.cut[key]

    def _causal_mask(self, node: Node, selection: Selection) -> Value | None:
        """Query i sees keys 0 to i: these rows of the triangle [count, keys], which ``is_causal`` cannot say."""
        a, build = bind(node), Builder(self.module, node, NAME)
        device = node.meta["val"].device
        queries, keys = torch.arange(sizes(a["query"])[-2]), torch.arange(sizes(a["key"])[-2])
        if selection.index is None:
            seen = queries[selection.start : selection.end, None] >= keys
            return None if bool(seen.all()) else build.constant(seen.to(device))
        call = partial(self._call, node, selection)
        index = selection.rows(call, build.constant(queries.to(device)), 0)
        column = call("aten.reshape", index, [selection.count, 1])
        return call("aten.ge.Tensor", column, build.constant(keys.to(device)))

    def _call(self, node: Node, selection: Selection, target: Any, *args: Any, **kwargs: Any) -> Value:
        """A call in place of ``node``, or after the index it needs where that comes later."""
        index = selection.index
        if index is None or index < node:
            return Builder(self.module, node, NAME).call(target, *args, **kwargs)
        after = self.last.get(selection, Value(index))
        self.last[selection] = Builder(self.module, node, NAME).call(target, *args, after=after, **kwargs)
        return self.last[selection]
