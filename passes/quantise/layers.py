"""Which layers are quantised, and at which nodes of the graph their values are rounded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.fx import Node

from hycompile.program import Method, constant
from hycompile.quantisation.nodes import is_move, is_whole_move
from hycompile.quantisation.whole import end
from hycompile.schema import bind, is_call

# Operator -> what its input and its weight are called, and the axis of the weight that holds the output channels.
_WEIGHTED = {
    "aten.conv1d": ("input", "weight", 0),
    "aten.conv2d": ("input", "weight", 0),
    "aten.conv3d": ("input", "weight", 0),
    "aten.conv1d.padding": ("input", "weight", 0),
    "aten.conv2d.padding": ("input", "weight", 0),
    "aten.conv3d.padding": ("input", "weight", 0),
    "aten.conv_transpose1d": ("input", "weight", 1),
    "aten.conv_transpose2d.input": ("input", "weight", 1),
    "aten.conv_transpose3d.input": ("input", "weight", 1),
    "aten.linear": ("input", "weight", 0),
}
_PRODUCTS = {
    "aten.matmul": ("self", "other"),
    "aten.bmm": ("self", "mat2"),
    "aten.mm": ("self", "mat2"),
}


@dataclass(frozen=True)
class Layer:
    """One layer to quantise.

    Args:
        node: the operator.
        inputs: the values it reads at run time, each to be rounded.
        weight: the constant it reads; None for a product of two values.
        axis: of the weight's output channels; None if they cannot have scales of their own.
        bias: the constant it adds to its sums.
        output: the value to be rounded behind it; None if that stays in float.
    """

    node: Node
    inputs: tuple[Node, ...]
    weight: Node | None = None
    axis: int | None = None
    bias: Node | None = None
    output: Node | None = None


@dataclass
class Survey:
    """The layers of a method, and those left in float with the reasons."""

    layers: list[Layer] = field(default_factory=list[Layer])
    kept: list[tuple[Node, str]] = field(default_factory=list[tuple[Node, str]])


def survey(method: Method, *, products: bool, outputs: bool) -> Survey:
    """Find convolutions and linears with constant weights, and, if asked, products of two values.

    Args:
        method: what to look at.
        products: whether matrix products of two values are quantised.
        outputs: whether layers' outputs are rounded, too. What a method returns never is.
    """
    found = Survey()
    for node in method.graph.graph.nodes:
        layer = _weighted(method, node, found) or _product(node, found, products)
        if layer is not None:
            found.layers.append(_with_output(layer) if outputs else layer)
    return found


def shared_grid(node: Node, outputs: set[Node]) -> Node:
    """The layer output that ``node`` holds values of, moved about; ``node`` itself if there is none.

    One grid for both lets a runtime move whole numbers: rounding a value again to the grid it lies on changes nothing.
    """
    source = node
    while is_move(source) and source not in outputs:
        source = source.all_input_nodes[0]
    return source if source in outputs else node


def _weighted(method: Method, node: Node, found: Survey) -> Layer | None:
    for operator, (given, weighed, axis) in _WEIGHTED.items():
        if not is_call(node, operator):
            continue
        bound = bind(node)
        weight = bound[weighed]
        if constant(method.graph, weight) is None:
            found.kept.append((node, "its weight is computed at run time"))
            return None
        if constant(method.graph, bound[given]) is not None:
            found.kept.append((node, "its input is a constant"))
            return None
        grouped = axis == 1 and bound["groups"] != 1
        bias = bound["bias"] if constant(method.graph, bound["bias"]) is not None else None
        return Layer(node, (bound[given],), weight, None if grouped else axis, bias)
    return None


def _product(node: Node, found: Survey, wanted: bool) -> Layer | None:
    for operator, names in _PRODUCTS.items():
        if not is_call(node, operator):
            continue
        if not wanted:
            found.kept.append((node, "products of two values are left in float (quantise{products=true})"))
            return None
        factors = tuple(bind(node)[name] for name in names)
        return Layer(node, factors)
    if is_call(node, "aten.scaled_dot_product_attention"):
        found.kept.append((node, "attention is one operator, whose inner products no runtime here rounds"))
    return None


def _with_output(layer: Layer) -> Layer:
    last = end(layer.node)
    if any(user.op == "output" for user in last.users) or not _floats(last):
        return layer
    return Layer(layer.node, layer.inputs, layer.weight, layer.axis, layer.bias, last)


def _floats(node: Node) -> bool:
    value = node.meta["val"]
    return isinstance(value, Tensor) and value.dtype in (torch.float32, torch.float64)


def points(layers: list[Layer]) -> Iterator[tuple[Node, Node]]:
    """Every value to be rounded and the value whose grid it takes, each once, in order of the layers.

    Values that are concatenated lie on the grid of what comes out, and so does all they are moved from.
    """
    outputs = {layer.output for layer in layers if layer.output is not None}
    parts = {
        _origin(part, outputs): layer.node
        for layer in layers
        if is_call(layer.node, "aten.cat")
        for part in layer.inputs
    }

    def source(value: Node) -> Node:
        if value in parts:
            return source(parts[value])
        known = shared_grid(value, outputs)
        return known if known is value else source(known)

    seen: set[Node] = set()
    for layer in layers:
        for value in (*layer.inputs, *([layer.output] if layer.output is not None else [])):
            if value not in seen:
                seen.add(value)
                yield value, source(value)


def unmoved(node: Node) -> Node:
    """What a value was before it was moved about as a whole."""
    while is_whole_move(node):
        node = node.all_input_nodes[0]
    return node


def _origin(node: Node, outputs: set[Node]) -> Node:
    """The output that a value is the whole of, moved about; the value itself if it is none."""
    origin = unmoved(node)
    return origin if origin in outputs else node
