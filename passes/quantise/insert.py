"""Writes a plan into the graph: whole-number weights behind a dequantise node, and pairs of nodes at values."""

from __future__ import annotations

from collections.abc import Callable
from operator import getitem
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from hycompile.attributes import put_tensor, storage_key, tensor_at
from hycompile.fake import fake_mode, infer
from hycompile.passes.quantise.grid import Grid
from hycompile.passes.quantise.layers import Layer, points
from hycompile.passes.quantise.ranges import along
from hycompile.program import Method
from hycompile.quantisation.nodes import (
    CHOOSE_ROWS,
    DEQUANTISE,
    DEQUANTISE_CHANNELS,
    DEQUANTISE_GROUPS,
    DEQUANTISE_ROWS,
    QUANTISE,
    QUANTISE_ROWS,
)
from hycompile.quantisation.plan import QuantisedValue, QuantPlan
from hycompile.schema import overload


class Inserter:
    """Rewrites methods by one plan; a weight that several methods read becomes one tensor of whole numbers."""

    def __init__(self, plan: QuantPlan) -> None:
        self._values = {(value.method, value.node): value for value in plan.values}
        self._weights: dict[object, Tensor] = {}

    def run(self, name: str, method: Method, layers: list[Layer]) -> int:
        """Rewrite a method in place; returns how many quantise and dequantise nodes it has now."""
        writer = _Writer(method.graph)
        outputs = {layer.output for layer in layers if layer.output is not None}
        readers: dict[Node, list[Node]] = {}
        for layer in layers:
            for value in layer.inputs:
                readers.setdefault(value, []).append(layer.node)
        for point, _ in points(layers):
            value = self._values.get((name, point.name))
            if value is not None:
                users = list(point.users) if point in outputs else readers[point]
                writer.round(point, value, users)
        done: dict[str, Node] = {}
        for layer in layers:
            if layer.weight is not None and (value := self._values.get((name, str(layer.weight.target)))) is not None:
                key = str(layer.weight.target)
                if key not in done:
                    whole = self._whole(method.graph, key, value)
                    done[key] = writer.weight(layer.weight, value, whole, layer.node)
                layer.node.replace_input_with(layer.weight, done[key])
                given = self._values.get((name, layer.inputs[0].name))
                if layer.bias is not None and given is not None and given.scale and value.group is None:
                    writer.bias(layer.bias, layer.node, torch.tensor(value.scale) * given.scale[0])
                if not layer.weight.users:
                    method.graph.graph.erase_node(layer.weight)
        method.graph.graph.lint()
        method.graph.recompile()
        return writer.made

    def _whole(self, module: GraphModule, name: str, value: QuantisedValue) -> Tensor:
        weight = tensor_at(module, name).detach()
        key = (storage_key(weight), value.axis, value.group, value.bits, value.scale)
        if key not in self._weights:
            scale, point = (
                along(torch.tensor(numbers), weight, value.axis, value.group)
                for numbers in (value.scale, value.zero_point)
            )
            grid = Grid(value.bits, value.symmetric)
            self._weights[key] = grid.quantise(weight.float(), scale, point).to(torch.int8)
        return self._weights[key]


class _Writer:
    """Makes the nodes."""

    def __init__(self, module: GraphModule) -> None:
        self.module, self.mode, self.made = module, fake_mode(module.graph), 0

    def round(self, point: Node, value: QuantisedValue, users: list[Node]) -> None:
        """Put a quantise and a dequantise node behind ``point``, for these users of it."""
        dtype: torch.dtype = point.meta["val"].dtype
        with self.module.graph.inserting_before(_behind(point)):
            given = point
            if dtype != torch.float32:
                given = self._node("aten._to_copy", (point,), point, {"dtype": torch.float32})
            if value.dynamic:
                chosen = self._node(CHOOSE_ROWS, (given, torch.int8), point)
                scale, zero = (self._node(getitem, (chosen, index), point) for index in range(2))
                numbers = (scale, zero, value.low, value.high, torch.int8)
                whole = self._node(QUANTISE_ROWS, (given, *numbers), point)
                rounded = self._node(DEQUANTISE_ROWS, (whole, *numbers, dtype), point)
            else:
                numbers = (value.scale[0], value.zero_point[0], value.low, value.high, torch.int8)
                whole = self._node(QUANTISE, (given, *numbers), point)
                rounded = self._node(DEQUANTISE, (whole, *numbers), point, _out(dtype))
        self.made += 2
        for user in users:
            user.replace_input_with(point, rounded)

    def weight(self, weight: Node, value: QuantisedValue, whole: Tensor, before: Node) -> Node:
        """The dequantise node of a weight, ``before`` the first layer that reads it."""
        dtype: torch.dtype = weight.meta["val"].dtype
        stored = self._constant(f"{weight.target}_int8", whole, weight)
        numbers = (value.low, value.high, torch.int8)
        scale, point = torch.tensor(value.scale), torch.tensor(value.zero_point)
        if value.group is not None:
            scale, point = (each.reshape(len(whole), -1) for each in (scale, point))
        keywords = _out(dtype)
        if value.axis is None:
            operator, arguments = DEQUANTISE, (stored, value.scale[0], value.zero_point[0], *numbers)
        else:
            channels = (
                self._constant(f"{weight.target}_scale", scale, weight),
                self._constant(f"{weight.target}_zero_point", point, weight),
            )
            operator, arguments = DEQUANTISE_CHANNELS, (stored, *channels, value.axis, *numbers)
            if value.group is not None:
                operator, arguments = DEQUANTISE_GROUPS, (stored, *channels, *numbers, value.group, dtype)
                keywords = {}
        with self.module.graph.inserting_before(before):
            made = self._node(operator, arguments, before, keywords)
        self.made += 1
        return made

    def bias(self, bias: Node, layer: Node, scale: Tensor) -> None:
        """Give a layer a bias of its own on the grid of its sums, as runtimes round it to 32 bits."""
        known = tensor_at(self.module, str(bias.target)).detach()
        rounded = (known.double() / scale.double()).round() * scale.double()
        own = self._constant(f"{bias.target}_of_{layer.name}", rounded.to(known.dtype), bias)
        layer.replace_input_with(bias, own)
        if not bias.users:
            self.module.graph.erase_node(bias)

    def _node(
        self,
        operator: str | Callable[..., Any],
        arguments: tuple[Any, ...],
        like: Node,
        keywords: dict[str, Any] | None = None,
    ) -> Node:
        target = overload(operator) if isinstance(operator, str) else operator
        node = self.module.graph.call_function(target, arguments, keywords or {})
        for key in ("stack_trace", "nn_module_stack"):
            if key in like.meta:
                node.meta[key] = like.meta[key]
        infer(self.module, node, self.mode)
        return node

    def _constant(self, name: str, tensor: Tensor, before: Node) -> Node:
        put_tensor(self.module, name, tensor)
        with self.module.graph.inserting_before(before):
            node = self.module.graph.get_attr(name)
        infer(self.module, node, self.mode)
        return node


def _behind(node: Node) -> Node:
    """The first place behind a node that is no placeholder, so that inputs stay together."""
    place = node.next
    while place.op == "placeholder":
        place = place.next
    return place


def _out(dtype: torch.dtype) -> dict[str, Any]:
    return {} if dtype == torch.float32 else {"out_dtype": dtype}
