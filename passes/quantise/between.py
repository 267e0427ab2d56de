"""Which operators between layers compute on whole numbers: those with which fewest bytes are moved."""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from hycompile.passes.quantise.layers import Layer, unmoved
from hycompile.program import Method
from hycompile.quantisation.nodes import is_move
from hycompile.quantisation.whole import TABLES, end, operands
from hycompile.schema import is_call

# Bytes that a convert reads and writes for each number, and those of a float and of a whole number.
_CONVERT, _FLOAT, _WHOLE = 5, 4, 1
# Exponentials take longer than memory does: as if so many more bytes were moved.
_EXPONENTIAL = 12
# What rounding one more number has to save, for it costs accuracy: sums between two norms stay in float.
_ROUNDING = 10
_CLAMPS = ("aten.relu", "aten.relu6", "aten.hardtanh")

# The two ends of the cut.
_ON_WHOLE, _IN_FLOAT = "whole", "float"


def operators_between(method: Method, layers: list[Layer]) -> list[Layer]:
    """The operators that compute on whole numbers beside these layers, in graph order.

    Every operator is on one of two sides, whole numbers or floats, and a value is converted once for all its readers on
    the other side. The choice with the fewest bytes moved is a minimum cut.
    """
    nodes = list(method.graph.graph.nodes)
    candidates = {node: read for node in nodes if (read := _candidate(node)) is not None}
    for taken in [end(node) for node in [*candidates, *(layer.node for layer in layers)] if end(node) is not node]:
        candidates.pop(taken, None)
    _keep_grids_apart(candidates)
    whole = _Cut(candidates, {layer.node for layer in layers}).whole_side(nodes)
    return [Layer(node, read, output=end(node)) for node, read in candidates.items() if node in whole]


def _candidate(node: Node) -> tuple[Node, ...] | None:
    read, users = operands(node), end(node).users
    if read is None or not users or any(user.op == "output" for user in users):
        return None
    value = node.meta["val"]
    return read if isinstance(value, Tensor) and value.dtype in (torch.float32, torch.float64) else None


def _keep_grids_apart(candidates: dict[Node, tuple[Node, ...]]) -> None:
    """Leave a concatenation in float if a part of it is one of another, too: the parts of each have one grid."""
    taken: set[Node] = set()
    for node in [node for node in candidates if is_call(node, "aten.cat")]:
        parts = {unmoved(part) for part in candidates[node]}
        if parts & taken:
            del candidates[node]
        taken |= parts


class _Cut:
    """The graph that is cut: an edge from one operator to another costs its bytes if they end up on two sides."""

    def __init__(self, candidates: dict[Node, tuple[Node, ...]], layers: set[Node]) -> None:
        self._networkx: Any = import_module("networkx")
        self._graph: Any = self._networkx.DiGraph()
        self._graph.add_nodes_from((_ON_WHOLE, _IN_FLOAT))
        self._free, self._layers = candidates, layers
        self._starts = {end(node): node for node in [*candidates, *layers]}

    def whole_side(self, nodes: list[Node]) -> set[Node]:
        """The free operators that are to compute on whole numbers."""
        for node in nodes:
            if node.op != "get_attr" and node.users and _is_float(node.meta.get("val")):
                self._value(node)
        for node in self._free:
            saved = _bytes(node, _FLOAT) - _bytes(node, _WHOLE) - _ROUNDING * _numel(node.meta["val"])
            self._edge(_ON_WHOLE, node, max(saved, 0))
            self._edge(node, _IN_FLOAT, max(-saved, 0))
        _, (reached, _) = self._networkx.minimum_cut(self._graph, _ON_WHOLE, _IN_FLOAT)
        return {node for node in self._free if node in reached}

    def _value(self, node: Node) -> None:
        """What it costs to convert a value once, for all readers on the side that its maker is not on."""
        maker, readers = self._side(node), {self._side(user) for user in node.users}
        if readers <= {maker}:
            return
        cost, back, forth = _CONVERT * _numel(node.meta["val"]), ("dequantised", node), ("quantised", node)
        self._edge(maker, back, cost)
        self._edge(forth, maker, cost)
        for reader in readers:
            self._edge(back, reader, math.inf)
            self._edge(reader, forth, math.inf)

    def _side(self, node: Node) -> object:
        """The vertex of an operator: an end of the cut unless it is free."""
        start = self._starts.get(node, node)
        if start in self._layers:
            return _ON_WHOLE
        return start if start in self._free or is_move(start) else _IN_FLOAT

    def _edge(self, tail: object, head: object, cost: float) -> None:
        if tail == head or cost == 0:
            return
        known = self._graph.get_edge_data(tail, head, {"capacity": 0})["capacity"]
        self._graph.add_edge(tail, head, capacity=known + cost)


def _bytes(node: Node, each: int) -> int:
    """Read and written by an operator on numbers of ``each`` bytes."""
    result = _numel(node.meta["val"])
    read = sum(_numel(given.meta["val"]) for given in node.all_input_nodes)
    exponential = is_call(node, *TABLES) and not is_call(node, *_CLAMPS) and each == _FLOAT
    return each * (result + read) + _EXPONENTIAL * exponential * result


def _is_float(value: object) -> bool:
    """Of one tensor, or of the pieces of one."""
    if isinstance(value, (list, tuple)):
        return bool(value) and all(map(_is_float, value))  # pyright: ignore[reportUnknownArgumentType,reportUnknownVariableType]
    return isinstance(value, Tensor) and value.is_floating_point()


def _numel(value: Any) -> int:
    """A dynamic size counts as it was captured."""
    if not isinstance(value, Tensor):
        return sum(map(_numel, value))
    return math.prod(_hint(size) for size in value.shape)


def _hint(size: Any) -> int:
    return size if isinstance(size, int) else int(size.node.hint)
