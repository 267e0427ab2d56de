"""The walk over a graph that rewrites each operator of too many dimensions."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch.fx import GraphModule, Node

from hycompile.builder import Value
from hycompile.ranks.forms import form_of
from hycompile.ranks.site import Site, rank
from hycompile.rewrite import erase_dead


def reduce_ranks(module: GraphModule, limit: int) -> int:
    """Rewrite, in place, every operator with a result or argument of rank above ``limit``; returns how many.

    What it cannot rewrite (an input or output of larger rank, a symbolic size, an operator it does not know) it leaves
    as it is, for the caller to report.

    Args:
        module: in normal form.
        limit: the largest rank the target has; at least four.
    """
    flat: dict[Node, Value] = {}
    hits = 0
    for node in list(module.graph.nodes):
        if node.op != "call_function" or not touches_above(node, limit):
            continue
        handler = form_of(node, limit)
        if handler is None or not _feasible(node, flat, limit):
            continue
        result = handler(Site(module, node, flat, limit))
        hits += 1
        if isinstance(result, list):
            for index, part in enumerate(result):
                _settle(_pieces(node, index), part, flat, limit)
        else:
            _settle([node], result, flat, limit)
    if hits:
        for node in reversed(list(module.graph.nodes)):
            if not node._erased and node.op == "call_function" and not node.users:
                erase_dead(module, node)
        module.graph.lint()
        module.recompile()
    return hits


def touches_above(node: Node, limit: int) -> bool:
    """Whether a result or an argument of a node has a rank above ``limit``."""
    return rank(node) > limit or any(rank(argument) > limit for argument in node.all_input_nodes)


def _feasible(node: Node, flat: dict[Node, Value], limit: int) -> bool:
    """All sizes known, and every large input already in a grouped form."""
    tensors: list[Any] = [node.meta["val"]] if isinstance(node.meta["val"], torch.Tensor) else list(node.meta["val"])
    for argument in node.all_input_nodes:
        if rank(argument) > limit and argument not in flat and argument.op != "get_attr":
            return False
        tensors.append(argument.meta["val"])
    sizes: list[Any] = [size for tensor in tensors if isinstance(tensor, torch.Tensor) for size in tensor.shape]
    sized = all(isinstance(size, int) for size in sizes)
    return sized and not any(user.op == "output" for user in node.users if rank(node) > limit)


def _pieces(node: Node, index: int) -> list[Node]:
    return [user for user in node.users if user.target is operator.getitem and user.args[1] == index]


def _settle(nodes: list[Node], result: Value, flat: dict[Node, Value], limit: int) -> None:
    """Small results replace their nodes; large ones are kept in grouped form for the nodes that use them."""
    for node in nodes:
        if rank(node) > limit:
            flat[node] = result
        else:
            node.replace_all_uses_with(result.node, propagate_meta=False)
