"""Operators on the channels of every position, in a layout that has these elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.fx import GraphModule, Node

from hycompile.builder import Builder, Value
from hycompile.passes.layout.chain import give_away, static_shape
from hycompile.passes.layout.movable import Layout, Movable, Needs
from hycompile.program import constant
from hycompile.schema import bind, is_call


class ChannelMix(Movable):
    """linear(m(x), W) = m(conv2d(x, W as 1 x 1)): a matrix on the channels of every position, wherever these lie."""

    operators = ("aten.linear", "aten.conv2d")

    def needs(self, module: GraphModule, node: Node, layout: Layout) -> Needs | None:
        bound = bind(node)
        source: Node = bound["input"]
        tensors = [constant(module, bound["weight"]), constant(module, bound["bias"])]
        if tensors[0] is None or (tensors[1] is None and bound["bias"] is not None) or not _pointwise(node, tensors[0]):
            return None
        channels = len(layout.base.source) - 1 if is_call(node, "aten.linear") else 1
        move = layout.of(static_shape(source))
        fits = layout.axis == channels and (layout.ends_last or layout.is_image)
        return {source: move} if move is not None and fits else None

    def build(self, build: Builder, node: Node, layout: Layout, values: Mapping[Node, Value]) -> Value:
        bound = bind(node)
        operator = "aten.linear" if layout.ends_last else "aten.conv2d"
        weight: Any = bound["weight"]
        if not is_call(node, operator):
            tensor = constant(build.module, weight)
            assert tensor is not None
            weight = tensor.flatten(1) if layout.ends_last else tensor[:, :, None, None]
        return build.call(operator, values[bound["input"]], weight, bound["bias"])


def _pointwise(node: Node, weight: Tensor) -> bool:
    """Whether every position is computed from itself only, all channels from all."""
    if is_call(node, "aten.linear"):
        return True
    bound = bind(node)
    still = all(step == 1 for step in bound["stride"]) and not any(bound["padding"])
    return still and bound["groups"] == 1 and tuple(weight.shape[2:]) == (1, 1)


class LastNorm(Movable):
    """layer_norm(m(x)) = m(layer_norm(x)) over channels that lie last in both."""

    operators = ("aten.layer_norm",)

    def needs(self, module: GraphModule, node: Node, layout: Layout) -> Needs | None:
        bound = bind(node)
        move = layout.of(static_shape(node))
        last = layout.axis == len(layout.base.source) - 1 and layout.ends_last
        return {bound["input"]: move} if move is not None and last and len(bound["normalized_shape"]) == 1 else None

    def build(self, build: Builder, node: Node, layout: Layout, values: Mapping[Node, Value]) -> Value:
        bound = bind(node)
        return build.call("aten.layer_norm", *(values.get(value, value) for value in bound.values()))


class FirstNorm(LastNorm):
    """The same where channels do not lie last, for targets whose layer norm is over any axis.

    torch's is over the last ones only, so it is written between two permutes that the lowering makes one with it.
    """

    def needs(self, module: GraphModule, node: Node, layout: Layout) -> Needs | None:
        bound = bind(node)
        move = layout.of(static_shape(node))
        whole = layout.axis == len(layout.base.source) - 1 and layout.end is not None
        return {bound["input"]: move} if move is not None and whole and len(bound["normalized_shape"]) == 1 else None

    def build(self, build: Builder, node: Node, layout: Layout, values: Mapping[Node, Value]) -> Value:
        if layout.ends_last:
            return super().build(build, node, layout, values)
        bound, rank = bind(node), len(layout.base.target)
        order = [*(dim for dim in range(rank) if dim != layout.end), layout.end]
        last = give_away(build.call("aten.permute", values[bound.pop("input")], order))
        normed = build.call("aten.layer_norm", last, *bound.values())
        return give_away(build.call("aten.permute", normed, [order.index(dim) for dim in range(rank)]))
