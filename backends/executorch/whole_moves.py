"""Moves of whole numbers: what is only moved between two operators on whole numbers need not become floats for it."""

from __future__ import annotations

from typing import Any

from torch.fx import GraphModule, Node

from hycompile.builder import Builder, Value
from hycompile.program import Program
from hycompile.quantisation.int8 import HIGH, LOW
from hycompile.quantisation.nodes import DEQUANTISE, QUANTISE, is_dequantise, is_quantise
from hycompile.schema import bind, is_call

# Moves of everything, so that rounding before them is as much work as behind.
_WHOLE = ("aten.reshape", "aten.permute", "aten.transpose.int", "aten.flatten.using_ints", "aten.unflatten.int")
_MOVES = (*_WHOLE, "aten.slice.Tensor", "aten.max_pool2d")
_CLAMPS = ("aten.relu", "aten.relu6", "aten.hardtanh")


def move_whole_numbers(program: Program) -> int:
    """Round values before they are moved and keep them so behind; returns how many moves are of whole numbers now.

    XNNPACK's partitioner takes a move on whole numbers between a dequantise and a quantise node of equal grids.
    Rounding what lies on a grid to that grid changes nothing, and rounding commutes with moves, so that every move next
    to a rounded value can have both.
    """
    return sum(_rewrite(method.graph) for method in program.methods.values())


def _rewrite(module: GraphModule) -> int:
    for node in list(module.graph.nodes):
        if is_call(node, "aten.max_pool2d"):
            _part_from_clamps(node)
    for node in reversed(module.graph.nodes):
        if is_quantise(node):
            _round_before(module, node)
    moved = 0
    for node in list(module.graph.nodes):
        if is_call(node, *_MOVES) and _is_value(node.all_input_nodes[0]) and not _before_clamp(node):
            _round_behind(module, node)
            moved += 1
    for node in list(module.graph.nodes):
        if is_quantise(node) and _is_value(node.all_input_nodes[0]):
            _change_grid(module, node)
    module.graph.lint()
    module.recompile()
    return moved


def _part_from_clamps(pool: Node) -> None:
    """Let clamps read what was pooled as floats, which lie on its grid already.

    XNNPACK computes a clamp together with the pooling before it (``subgraph.c``), also where the clamp gives another
    grid, and the whole numbers of the one grid are then read as those of the other.
    """
    for quantise in [user for user in pool.users if is_quantise(user)]:
        for user in [user for dequantise in quantise.users for user in dequantise.users]:
            if is_call(user, *_CLAMPS):
                user.replace_input_with(user.all_input_nodes[0], pool)


def _before_clamp(node: Node) -> bool:
    return is_call(node, "aten.max_pool2d") and any(is_call(user, *_CLAMPS) for user in node.users)


def _round_before(module: GraphModule, quantise: Node) -> None:
    """q(move(x)) = q(move(dq(q(x)))), and so on up a chain of moves that nothing else reads.

    The largest of rounded values is the largest rounded: pooling to another grid goes on that grid.
    """
    move = quantise.all_input_nodes[0]
    while len(move.users) == 1:
        pooled = is_call(move, "aten.max_pool2d")
        if not pooled and not (is_call(move, *_WHOLE) and not is_dequantise(move.all_input_nodes[0])):
            return
        source = move.all_input_nodes[0]
        if pooled and is_dequantise(source) and _grid(source) == _grid(quantise):
            return
        move.replace_input_with(source, _pair(module, move, source, quantise))
        move = source


def _round_behind(module: GraphModule, move: Node) -> None:
    """move(dq(x)) = dq(q(move(dq(x)))). A copy takes the place of a view: a reshape behind it need not make one."""
    source, users = move.all_input_nodes[0], list(move.users)
    copy = _copied(Builder(module, move, "moved"), move)
    rounded = _pair(module, move, copy, source)
    move.replace_all_uses_with(rounded)
    module.graph.erase_node(move)
    for user in users:
        if is_quantise(user) and _grid(user) == _grid(source):
            user.replace_all_uses_with(rounded.all_input_nodes[0])
            module.graph.erase_node(user)


def _change_grid(module: GraphModule, quantise: Node) -> None:
    """q(dq(x)) from one grid to another: clamped to the second grid's ends, it is a table and no two converts."""
    source = quantise.all_input_nodes[0]
    pooled = is_call(source.all_input_nodes[0].all_input_nodes[0], "aten.max_pool2d")
    if _grid(quantise) == _grid(source) or pooled:
        return
    _, scale, zero_point, *_ = bind(quantise).values()
    low, high = (scale * (end - zero_point) for end in (LOW, HIGH))
    clamped = Builder(module, quantise, "regrid").call("aten.hardtanh", Value(source), low, high)
    quantise.replace_input_with(source, clamped.node)


def _copied(build: Builder, move: Node) -> Node:
    arguments: dict[str, Any] = bind(move)
    given = Value(arguments["self"])
    if is_call(move, "aten.permute"):
        return build.call("aten.permute_copy", given, arguments["dims"]).node
    if is_call(move, "aten.transpose.int"):
        rank = len(given.shape)
        order, one, other = list(range(rank)), arguments["dim0"] % rank, arguments["dim1"] % rank
        order[one], order[other] = order[other], order[one]
        return build.call("aten.permute_copy", given, order).node
    if is_call(move, "aten.slice.Tensor"):
        return build.call("aten.slice_copy.Tensor", *arguments.values()).node
    return build.call(move.target, *arguments.values()).node  # type: ignore[arg-type]


def _pair(module: GraphModule, before: Node, value: Node, like: Node) -> Node:
    """A quantise and a dequantise node for ``value`` on the grid of ``like``; returns the second."""
    build = Builder(module, before, "moved")
    return build.call(DEQUANTISE, build.call(QUANTISE, Value(value), *_grid(like)), *_grid(like)).node


def _grid(node: Node) -> tuple[Any, ...]:
    _, scale, zero_point, low, high, dtype, *_ = bind(node).values()
    return scale, zero_point, low, high, dtype


def _is_value(node: Node) -> bool:
    """Whether it makes floats of whole numbers that are computed at run time."""
    return is_call(node, DEQUANTISE) and node.all_input_nodes[0].op != "get_attr"
