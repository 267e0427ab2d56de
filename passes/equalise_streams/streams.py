"""Streams: values that only sums, gates and moves lie between, so that one factor for each channel scales them all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch.fx import Node

from hycompile.passes.absorb.operator import LINEAR, linear_operator
from hycompile.passes.absorb.paths import passes_down, passes_up
from hycompile.passes.absorb.readers import readers_of
from hycompile.passes.affine import Affine, channel_axis
from hycompile.rewrite import require
from hycompile.schema import bind, is_call, operator_name

_SUMS = ("aten.add.Tensor", "aten.sub.Tensor")
_PRODUCTS = ("aten.mul.Tensor",)


@dataclass
class Stream:
    """Values of one factor for each channel, and the linear operators it begins and ends at.

    Args:
        values: and the axis of their channels.
        producers: whose outputs are among the values.
        consumers: that read one of them.
    """

    values: dict[Node, int] = field(default_factory=dict[Node, int])
    producers: dict[Node, None] = field(default_factory=dict[Node, None])
    consumers: dict[Node, None] = field(default_factory=dict[Node, None])


def stream_of(producer: Node) -> Stream:
    """The stream that the output of a linear operator belongs to; refused if anything else makes or reads a value."""
    axis = channel_axis(producer)
    require(axis is not None, "{} works without a batch axis", producer.name)
    found = Stream()
    # Each with whether an operand of it is known to be of the stream, so that it is itself.
    pending: list[tuple[Node, int, bool]] = [(producer, axis, False)]  # type: ignore[list-item]
    while pending:
        node, axis, follows = pending.pop()
        if node in found.values:
            require(found.values[node] == axis, "{} has its channels on two axes", node.name)
            continue
        found.values[node] = axis
        pending += ((source, before, False) for source, before in _sources(found, node, axis, follows))
        pending += ((user, after, True) for user, after in _readers(found, node, axis))
    for node in found.values:
        if is_call(node, *_PRODUCTS):
            factors = [source for source in node.all_input_nodes if source in found.values]
            require(len(factors) == 1, "{} multiplies two values of the stream", node.name)
    for operator in (*found.producers, *found.consumers):
        weight = bind(operator)["weight"]
        module = operator.graph.owning_module
        require(module is not None and len(readers_of(module, weight)) == 1, "several read the weight of {}", operator)
    return found


def _sources(found: Stream, node: Node, axis: int, follows: bool) -> Iterator[tuple[Node, int]]:
    """The values that one is made of and that must have its factor."""
    if is_call(node, *LINEAR):
        linear_operator(node, axis, "the stream", "the channels of {} lie on")
        found.producers[node] = None
        return
    require(node.op == "call_function", "{} is no value of an operator", node.name)
    if is_call(node, *_SUMS):
        _require_same_shape(node)
        yield from ((source, axis) for source in node.all_input_nodes)
        return
    if follows:
        return
    source = _carrier(node)
    passes, before = passes_up(node, source, axis, _positive(node, axis))
    require(passes and before is not None, "{} gives a value of it and keeps no factor", operator_name(node))
    yield source, before  # type: ignore[misc]


def _readers(found: Stream, node: Node, axis: int) -> Iterator[tuple[Node, int]]:
    for user in node.users:
        if is_call(user, *LINEAR):
            a = bind(user)
            require(a["weight"] is not node and a["bias"] is not node, "{} takes it as a weight", user.name)
            linear_operator(user, axis, "the stream", "{} mixes")
            found.consumers[user] = None
        elif is_call(user, *_SUMS):
            _require_same_shape(user)
            yield user, axis
        else:
            passes, after = passes_down(user, node, axis, _positive(node, axis))
            require(passes and after is not None, "{} reads it and keeps no factor", operator_name(user))
            yield user, after  # type: ignore[misc]


def _positive(node: Node, axis: int) -> Affine:
    channels = node.meta["val"].shape[axis]
    return Affine(torch.ones(channels).double(), torch.zeros(channels).double())


def _carrier(node: Node) -> Node:
    """Of a gated value the one that is as large as the result; the only input of another operator."""
    sources = node.all_input_nodes
    if is_call(node, *_PRODUCTS):
        sources = [source for source in sources if source.meta["val"].shape == node.meta["val"].shape]
    require(len(sources) == 1, "{} has several inputs", node.name)
    return sources[0]


def _require_same_shape(total: Node) -> None:
    a = bind(total)
    operands = [a["self"], a["other"]]
    shapes = {tuple(value.meta["val"].shape) for value in operands if isinstance(value, Node)}
    fits = len(shapes) == 1 and all(isinstance(value, Node) for value in operands)
    require(fits, "{} adds a number, or values of several shapes", total.name)
