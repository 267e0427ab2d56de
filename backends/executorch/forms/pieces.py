"""Pieces of a tensor as slices: XNNPACK takes ``slice`` and ``reshape``, but not what unbind and split become."""

from __future__ import annotations

import operator
from typing import Any

from torch.fx import GraphModule, Node

from hycompile.builder import Builder, Value
from hycompile.program import Program
from hycompile.schema import bind, is_call

_SPLITS = ("aten.split.Tensor", "aten.split_with_sizes", "aten.unbind.int", "aten.chunk")


def slice_pieces(program: Program) -> int:
    """Write ``unbind``, ``split``, ``chunk`` and ``select`` of fixed sizes as slices; returns how many pieces.

    split(x)[i] = x[start_i : end_i];  unbind(x)[i] = select(x, i) = reshape(x[i : i + 1]).
    """
    return sum(_slice(method.graph) for method in program.methods.values())


def _slice(module: GraphModule) -> int:
    pieces = 0
    for node in list(module.graph.nodes):
        if is_call(node, *_SPLITS) and _fixed(node.args[0]):
            pieces += _split(module, node)
        elif is_call(node, "aten.select.int") and _fixed(node.args[0]):
            a = bind(node)
            index = a["index"] % node.args[0].meta["val"].shape[a["dim"]]
            node.replace_all_uses_with(_piece(module, node, a["self"], a["dim"], index, index + 1).node)
            module.graph.erase_node(node)
            pieces += 1
    module.recompile()
    return pieces


def _split(module: GraphModule, node: Node) -> int:
    """Every ``getitem`` of a split becomes its slice."""
    a, start, pieces = bind(node), 0, 0
    bounds: list[tuple[int, int]] = []
    for piece in node.meta["val"]:
        size = 1 if is_call(node, "aten.unbind.int") else piece.shape[a["dim"]]
        bounds.append((start, start + size))
        start += size
    for user in list(node.users):
        if user.target is operator.getitem:
            index: Any = user.args[1]
            user.replace_all_uses_with(_piece(module, user, node.args[0], a["dim"], *bounds[index]).node)
            module.graph.erase_node(user)
            pieces += 1
    if not node.users:
        module.graph.erase_node(node)
    return pieces


def _piece(module: GraphModule, node: Node, source: Any, dim: int, start: int, end: int) -> Value:
    build = Builder(module, node, "piece")
    piece = build.call("aten.slice.Tensor", source, dim, start, end)
    shape = node.meta["val"].shape
    return piece if len(shape) == len(piece.shape) else build.call("aten.reshape", piece, list(shape))


def _fixed(value: Any) -> bool:
    return all(isinstance(size, int) for size in value.meta["val"].shape)
