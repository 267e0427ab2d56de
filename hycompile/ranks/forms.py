"""For each operator, the same computed on tensors whose dimensions are grouped."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch._ops import OpOverload
from torch.fx import Node

from hycompile.builder import Value
from hycompile.permutation import merged_permutation, permutation_steps
from hycompile.ranks.site import Site, grouped_around, rank, shape_of
from hycompile.schema import is_call

Form = Callable[[Site], Value | list[Value]]

_REDUCTIONS = ("aten.amax", "aten.amin", "aten.sum.dim_IntList", "aten.mean.dim")
_RESHAPES = (
    "aten.reshape",
    "aten.unsqueeze",
    "aten.squeeze",
    "aten.squeeze.dim",
    "aten.squeeze.dims",
    "aten.flatten.using_ints",
    "aten.unflatten.int",
    "aten.clone",
)


def _reshape(site: Site) -> Value:
    shape = shape_of(site.node)
    if len(shape) > site.limit:
        return site.value(site.source)
    return site.grouped(site.source, shape)


def _permute(site: Site) -> Value:
    shape = shape_of(site.source)
    if is_call(site.node, "aten.transpose.int"):
        order = list(range(len(shape)))
        first, second = site.arguments["dim0"], site.arguments["dim1"]
        order[first], order[second] = order[second], order[first]
    else:
        order = [dim % len(shape) for dim in site.arguments["dims"]]
    result = site.value(site.source)
    for sizes, moves in permutation_steps(*merged_permutation(shape, order), site.limit):
        result = site.builder.call("aten.reshape", result, list(sizes))
        result = site.builder.call("aten.permute", result, moves)
    return site.finish(result, shape_of(site.node))


def _unbind(site: Site) -> list[Value]:
    shape, dim = shape_of(site.source), site.arguments["dim"] % rank(site.source)
    grouped, rest = site.around(dim), shape[:dim] + shape[dim + 1 :]
    return [site.finish(site.builder.call("aten.select.int", grouped, 1, i), rest) for i in range(shape[dim])]


def _select(site: Site) -> Value:
    part = site.builder.call("aten.select.int", site.around(site.arguments["dim"]), 1, site.arguments["index"])
    return site.finish(part, shape_of(site.node))


def _slice(site: Site) -> Value:
    a = site.arguments
    part = site.builder.call("aten.slice.Tensor", site.around(a["dim"]), 1, a["start"], a["end"], a["step"])
    return site.finish(part, shape_of(site.node))


def _split(site: Site) -> list[Value]:
    dim = site.arguments["dim"] % rank(site.source)
    grouped, start, parts = site.around(dim), 0, list[Value]()
    for value in site.node.meta["val"]:
        part = site.builder.call("aten.slice.Tensor", grouped, 1, start, start + value.shape[dim], 1)
        parts.append(site.finish(part, tuple(value.shape)))
        start += value.shape[dim]
    return parts


def _cat(site: Site) -> Value:
    tensors = site.arguments["tensors"]
    dim = site.arguments["dim"] % rank(tensors[0])
    parts = [site.grouped(tensor, grouped_around(shape_of(tensor), dim)) for tensor in tensors]
    return site.finish(site.builder.call("aten.cat", parts, 1), shape_of(site.node))


def _reduction(site: Site) -> Value:
    """One dimension after the other: each becomes size one and is dropped by the grouping."""
    shape = list(shape_of(site.source))
    dims = site.arguments["dim"] or range(len(shape))
    result = site.value(site.source)
    for dim in (dim % len(shape) for dim in dims):
        grouped = site.builder.call("aten.reshape", result, list(grouped_around(tuple(shape), dim)))
        result = site.builder.call(site.node.target, grouped, [1], False)  # type: ignore[arg-type]
        shape[dim] = 1
    return site.finish(result, shape_of(site.node))


def _elementwise(site: Site) -> Value:
    """Neighbouring dimensions that every operand either has in full or broadcasts are merged."""
    shape = shape_of(site.node)
    operands = [argument for argument in site.arguments.values() if isinstance(argument, Node)]
    padded = {node: (1,) * (len(shape) - rank(node)) + shape_of(node) for node in operands}
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
    return site.finish(result, shape)


def _groups_fit(node: Node, limit: int) -> bool:
    shape = tuple(node.meta["val"].shape)
    operands = [(1,) * (len(shape) - rank(a)) + shape_of(a) for a in node.all_input_nodes]
    patterns = [tuple(o[dim] == shape[dim] for o in operands) for dim in range(len(shape)) if shape[dim] != 1]
    return sum(1 for a, b in zip([None, *patterns], patterns, strict=False) if a != b) <= limit


def form_of(node: Node, limit: int) -> Form | None:
    """The rewrite for a node's operator; None if there is none."""
    table: list[tuple[tuple[str, ...], Form]] = [
        (_RESHAPES, _reshape),
        (("aten.permute", "aten.transpose.int"), _permute),
        (("aten.unbind.int",), _unbind),
        (("aten.select.int",), _select),
        (("aten.slice.Tensor",), _slice),
        (("aten.split.Tensor", "aten.split_with_sizes"), _split),
        (("aten.cat",), _cat),
        (_REDUCTIONS, _reduction),
    ]
    for names, form in table:
        if is_call(node, *names):
            return form
    target = node.target
    pointwise = isinstance(target, OpOverload) and torch.Tag.pointwise in target.tags
    return (
        _elementwise if pointwise and isinstance(node.meta["val"], torch.Tensor) and _groups_fit(node, limit) else None
    )
