"""Tensors of more than five dimensions, which Core ML does not have, computed through tensors of at most five.

A tensor is its elements in row-major order; how they are grouped into dimensions is free to choose. Each operator that
touches a larger tensor is rewritten to a form that groups the dimensions it leaves alone:

    select, unbind, slice, split, cat, amax, ... of dimension d   ->   the same of dimension 1 of [before, d, after]
    permute                                                       ->   a permute of what moves together,
                                                                       or several of rank four
    any element-wise operator                                     ->   the same with neighbouring dimensions merged
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch._ops import OpOverload
from torch.fx import GraphModule, Node

from hycompile.builder import Builder, Value
from hycompile.permutation import Shape, block_swaps, merged_permutation
from hycompile.rewrite import erase_dead
from hycompile.schema import bind, is_call

LIMIT = 5

_REDUCTIONS = ("aten.amax", "aten.amin", "aten.sum.dim_IntList", "aten.mean.dim")
_RESHAPES = ("aten.reshape", "aten.unsqueeze", "aten.squeeze", "aten.squeeze.dim", "aten.squeeze.dims", "aten.clone")


def reduce_ranks(module: GraphModule) -> int:
    """Rewrite every operator with a result or argument of rank above five; returns how many were rewritten.

    What it cannot rewrite (a rank above five that is an input or output, a symbolic size, an operator it does not know)
    it leaves as it is, for ``obstacles`` to report.
    """
    flat: dict[Node, Value] = {}
    hits = 0
    for node in list(module.graph.nodes):
        if node.op != "call_function" or not _touches_large(node):
            continue
        handler = _handler(node)
        if handler is None or not _feasible(node, flat):
            continue
        result = handler(_Site(module, node, flat))
        hits += 1
        if isinstance(result, list):
            for index, part in enumerate(result):
                _settle(_pieces(node, index), part, flat)
        else:
            _settle([node], result, flat)
    if hits:
        for node in reversed(list(module.graph.nodes)):
            if not node._erased and node.op == "call_function" and not node.users:
                erase_dead(module, node)
        module.graph.lint()
        module.recompile()
    return hits


def rank(node: Node) -> int:
    """The largest rank among a node's results; 0 for none."""
    value: Any = node.meta.get("val")
    tensors = value if isinstance(value, list | tuple) else [value]
    return max((tensor.dim() for tensor in tensors if isinstance(tensor, torch.Tensor)), default=0)


class _Site:
    """One node under rewriting: its arguments by name, and its large inputs in their grouped form."""

    def __init__(self, module: GraphModule, node: Node, flat: dict[Node, Value]) -> None:
        self.node, self.flat = node, flat
        self.builder = Builder(module, node, "coreml")
        self.arguments = bind(node)

    def value(self, node: Node) -> Value:
        """A tensor argument, whatever its grouping."""
        return self.flat.get(node, Value(node))

    def grouped(self, node: Node, shape: Sequence[int]) -> Value:
        """The elements of a tensor argument as ``shape``."""
        return self.builder.call("aten.reshape", self.value(node), list(shape))

    @property
    def source(self) -> Node:
        return next(argument for argument in self.arguments.values() if isinstance(argument, Node))

    def around(self, dim: int) -> Value:
        """The first tensor argument as [before, dim, after]."""
        shape = _shape(self.source)
        return self.grouped(self.source, _around(shape, dim % len(shape)))


def _shape(node: Node) -> Shape:
    return tuple(node.meta["val"].shape)


def _around(shape: Shape, dim: int) -> Shape:
    return math.prod(shape[:dim]), shape[dim], math.prod(shape[dim + 1 :])


def _touches_large(node: Node) -> bool:
    return rank(node) > LIMIT or any(rank(argument) > LIMIT for argument in node.all_input_nodes)


def _feasible(node: Node, flat: dict[Node, Value]) -> bool:
    """All sizes known, and every large input already in a grouped form."""
    tensors: list[Any] = [node.meta["val"]] if isinstance(node.meta["val"], torch.Tensor) else list(node.meta["val"])
    for argument in node.all_input_nodes:
        if rank(argument) > LIMIT and argument not in flat and argument.op != "get_attr":
            return False
        tensors.append(argument.meta["val"])
    sizes: list[Any] = [size for tensor in tensors if isinstance(tensor, torch.Tensor) for size in tensor.shape]
    sized = all(isinstance(size, int) for size in sizes)
    return sized and not any(user.op == "output" for user in node.users if rank(node) > LIMIT)


def _pieces(node: Node, index: int) -> list[Node]:
    return [user for user in node.users if user.target is operator.getitem and user.args[1] == index]


def _settle(nodes: list[Node], result: Value, flat: dict[Node, Value]) -> None:
    """Small results replace their nodes; large ones are kept in grouped form for the nodes that use them."""
    for node in nodes:
        if rank(node) > LIMIT:
            flat[node] = result
        else:
            node.replace_all_uses_with(result.node, propagate_meta=False)


def _finish(site: _Site, result: Value, shape: Shape) -> Value:
    """A result with the shape it should have, unless that is too large: then as it is."""
    return (
        result
        if len(shape) > LIMIT or result.shape == shape
        else site.builder.call("aten.reshape", result, list(shape))
    )


def _reshape(site: _Site) -> Value:
    shape = _shape(site.node)
    if len(shape) > LIMIT:
        return site.value(site.source)
    return site.grouped(site.source, shape)


def _permute(site: _Site) -> Value:
    shape = _shape(site.source)
    if is_call(site.node, "aten.transpose.int"):
        order = list(range(len(shape)))
        first, second = site.arguments["dim0"], site.arguments["dim1"]
        order[first], order[second] = order[second], order[first]
    else:
        order = [dim % len(shape) for dim in site.arguments["dims"]]
    sizes, moves = merged_permutation(shape, order)
    result = site.value(site.source)
    if len(sizes) <= LIMIT:
        result = site.builder.call("aten.reshape", result, list(sizes))
        result = site.builder.call("aten.permute", result, moves)
    else:
        for before, left, right, after in block_swaps(sizes, moves):
            result = site.builder.call("aten.reshape", result, [before, left, right, after])
            result = site.builder.call("aten.permute", result, [0, 2, 1, 3])
    return _finish(site, result, _shape(site.node))


def _unbind(site: _Site) -> list[Value]:
    shape, dim = _shape(site.source), site.arguments["dim"] % rank(site.source)
    grouped, rest = site.around(dim), shape[:dim] + shape[dim + 1 :]
    return [_finish(site, site.builder.call("aten.select.int", grouped, 1, i), rest) for i in range(shape[dim])]


def _select(site: _Site) -> Value:
    part = site.builder.call("aten.select.int", site.around(site.arguments["dim"]), 1, site.arguments["index"])
    return _finish(site, part, _shape(site.node))


def _slice(site: _Site) -> Value:
    a = site.arguments
    part = site.builder.call("aten.slice.Tensor", site.around(a["dim"]), 1, a["start"], a["end"], a["step"])
    return _finish(site, part, _shape(site.node))


def _split(site: _Site) -> list[Value]:
    dim = site.arguments["dim"] % rank(site.source)
    grouped, start, parts = site.around(dim), 0, list[Value]()
    for value in site.node.meta["val"]:
        part = site.builder.call("aten.slice.Tensor", grouped, 1, start, start + value.shape[dim], 1)
        parts.append(_finish(site, part, tuple(value.shape)))
        start += value.shape[dim]
    return parts


def _cat(site: _Site) -> Value:
    tensors = site.arguments["tensors"]
    dim = site.arguments["dim"] % rank(tensors[0])
    parts = [site.grouped(tensor, _around(_shape(tensor), dim)) for tensor in tensors]
    return _finish(site, site.builder.call("aten.cat", parts, 1), _shape(site.node))


def _reduction(site: _Site) -> Value:
    """One dimension after the other: each becomes size one and is dropped by the grouping."""
    shape = list(_shape(site.source))
    dims = site.arguments["dim"] or range(len(shape))
    result = site.value(site.source)
    for dim in (dim % len(shape) for dim in dims):
        grouped = site.builder.call("aten.reshape", result, list(_around(tuple(shape), dim)))
        result = site.builder.call(site.node.target, grouped, [1], False)  # type: ignore[arg-type]
        shape[dim] = 1
    return _finish(site, result, _shape(site.node))


def _elementwise(site: _Site) -> Value:
    """Neighbouring dimensions that every operand either has in full or broadcasts are merged."""
    shape = _shape(site.node)
    operands = [argument for argument in site.arguments.values() if isinstance(argument, Node)]
    padded = {node: (1,) * (len(shape) - rank(node)) + _shape(node) for node in operands}
    groups: list[list[int]] = []
    for dim in range(len(shape)):
        full = [padded[node][dim] == shape[dim] for node in operands]
        if groups and (shape[dim] == 1 or full == [padded[n][groups[-1][0]] == shape[groups[-1][0]] for n in operands]):
            groups[-1].append(dim)
        else:
            groups.append([dim])

    def argument(value: object) -> object:
        if not isinstance(value, Node):
            return value
        return site.grouped(value, [math.prod([padded[value][dim] for dim in group]) for group in groups])

    arguments = [argument(value) for value in site.node.args]
    keywords = {name: argument(value) for name, value in site.node.kwargs.items()}
    result = site.builder.call(site.node.target, *arguments, **keywords)  # type: ignore[arg-type]
    return _finish(site, result, shape)


def _groups_fit(node: Node) -> bool:
    shape = tuple(node.meta["val"].shape)
    operands = [(1,) * (len(shape) - rank(a)) + _shape(a) for a in node.all_input_nodes]
    patterns = [tuple(o[dim] == shape[dim] for o in operands) for dim in range(len(shape)) if shape[dim] != 1]
    return sum(1 for a, b in zip([None, *patterns], patterns, strict=False) if a != b) <= LIMIT


def _handler(node: Node) -> Callable[[_Site], Value | list[Value]] | None:
    """The rewrite for a node's operator; None if there is none."""
    table: list[tuple[tuple[str, ...], Callable[[_Site], Value | list[Value]]]] = [
        (_RESHAPES, _reshape),
        (("aten.permute", "aten.transpose.int"), _permute),
        (("aten.unbind.int",), _unbind),
        (("aten.select.int",), _select),
        (("aten.slice.Tensor",), _slice),
        (("aten.split.Tensor", "aten.split_with_sizes"), _split),
        (("aten.cat",), _cat),
        (_REDUCTIONS, _reduction),
    ]
    for names, handler in table:
        if is_call(node, *names):
            return handler
    target = node.target
    pointwise = isinstance(target, OpOverload) and torch.Tag.pointwise in target.tags
    return _elementwise if pointwise and isinstance(node.meta["val"], torch.Tensor) and _groups_fit(node) else None
