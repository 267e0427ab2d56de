"""Quantised layers as products of whole numbers, which float32 adds exactly up to 2^24."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from hycompile.attributes import put_tensor, tensor_at
from hycompile.builder import Builder, Value
from hycompile.quantisation.int8 import as_int8
from hycompile.quantisation.nodes import DEQUANTISE, DEQUANTISE_CHANNELS, QUANTISE, is_dequantise
from hycompile.rewrite import erase_dead
from hycompile.schema import bind, is_call

# Operator -> how numbers for the output channels meet its result.
_LAYERS = {"aten.conv2d": (1, -1, 1, 1), "aten.linear": (-1,)}


def take_whole_numbers(module: GraphModule) -> dict[str, int]:
    """Bring a quantised graph into the form this backend translates, in place; returns hits by name."""
    hits = {
        "as_int8": as_int8(module),
        "multiply_whole_numbers": multiply_whole_numbers(module),
        "round_in_float": round_in_float(module),
        "fold_weights": fold_weights(module),
    }
    return {name: count for name, count in hits.items() if count}


def multiply_whole_numbers(module: GraphModule) -> int:
    """layer(s (q - z), t w) + b = s t layer(q - z, w) + b, t a number for each output channel; returns how many.

    q - z takes nine bits and stays in float; zero padding stands for the zero point then. The weight is cast to float
    by :mod:`hycompile.backends.tvm.products` where the sum reads it, so that it takes 8 bits in memory.
    """
    centred: dict[Node, Value] = {}
    found = [node for node in module.graph.nodes if is_call(node, *_LAYERS) and _is_whole(node)]
    for node in found:
        build, bound = Builder(module, node, "whole"), bind(node)
        x, weight, dtype = bind(bound["input"]), bind(bound["weight"]), node.meta["val"].dtype
        if x["input"] not in centred:
            centred[x["input"]] = _centred(build, x)
        whole = centred[x["input"]]
        whole = whole if whole.dtype == dtype else build.call("aten._to_copy", whole, dtype=dtype)
        channels = build.call("aten._to_copy", Value(weight["input"]), dtype=dtype)
        geometry = [value for name, value in bound.items() if name not in ("input", "weight", "bias")]
        shape = next(shape for name, shape in _LAYERS.items() if is_call(node, name))
        factor = x["scale"] * _scales(module, bound["weight"]).double()
        result = build.call(node.target, whole, channels, None, *geometry)  # type: ignore[arg-type]
        result = build.call("aten.mul.Tensor", result, factor.reshape(shape if factor.ndim else ()))
        if bound["bias"] is not None:
            result = build.call("aten.add.Tensor", result, build.call("aten.view", Value(bound["bias"]), list(shape)))
        node.replace_all_uses_with(result.node, propagate_meta=False)
        erase_dead(module, node)
    module.recompile()
    return len(found)


def round_in_float(module: GraphModule) -> int:
    """dequantise(quantise(x)) = s (q - z), with q - z as a float from the start; returns how many."""
    centred: dict[Node, Value] = {}
    found = [node for node in module.graph.nodes if is_call(node, DEQUANTISE) and is_call(node.args[0], QUANTISE)]
    for node in found:
        build, bound = Builder(module, node, "rounded"), bind(node)
        if bound["input"] not in centred:
            centred[bound["input"]] = _centred(build, bound)
        result = build.call("aten.mul.Tensor", centred[bound["input"]], bound["scale"])
        if result.dtype != node.meta["val"].dtype:
            result = build.call("aten._to_copy", result, dtype=node.meta["val"].dtype)
        node.replace_all_uses_with(result.node, propagate_meta=False)
        erase_dead(module, node)
    module.recompile()
    return len(found)


def fold_weights(module: GraphModule) -> int:
    """Make the float values of the weights whose layers compute in float; returns how many."""
    found = [node for node in module.graph.nodes if is_rounded_weight(node)]
    for node in found:
        operands = [tensor_at(module, str(x.target)) if isinstance(x, Node) else x for x in node.args]
        name = f"{node.all_input_nodes[0].target}_rounded"
        put_tensor(module, name, node.target(*operands, **node.kwargs))  # type: ignore[operator]
        with module.graph.inserting_before(node):
            constant = module.graph.get_attr(name)
        constant.meta["val"] = node.meta["val"]
        node.replace_all_uses_with(constant)
        erase_dead(module, node)
    module.recompile()
    return len(found)


def is_rounded_weight(node: Node) -> bool:
    """Whether a node makes floats of constant whole numbers."""
    return is_dequantise(node) and all(source.op == "get_attr" for source in node.all_input_nodes)


def _centred(build: Builder, dequantise: dict[str, Any]) -> Value:
    """q - z, right behind q, for all that read it: as it is rounded, or from the whole number where that is moved."""
    source, point = Value(dequantise["input"]), dequantise["zero_point"]
    if not is_call(source.node, QUANTISE):
        wide = build.call("aten._to_copy", source, dtype=torch.float32, after=source)
        return build.call("aten.sub.Tensor", wide, point, after=wide) if point else wide
    numbers = bind(source.node)
    steps = build.call("aten.mul.Tensor", Value(numbers["input"]), 1.0 / numbers["scale"], after=source)
    whole = build.call("aten.round", steps, after=steps)
    return build.call("aten.clamp", whole, numbers["quant_min"] - point, numbers["quant_max"] - point, after=whole)


def _is_whole(node: Node) -> bool:
    """Whether a layer multiplies rounded values by a symmetric weight with scales for its output channels.

    Sums of whole numbers do not fit into float16.
    """
    bound = bind(node)
    x, weight = bound["input"], bound["weight"]
    channelwise = is_rounded_weight(weight) and is_call(weight, DEQUANTISE, DEQUANTISE_CHANNELS)
    if not (channelwise and is_call(x, DEQUANTISE) and not is_rounded_weight(x)):
        return False
    if x.meta["val"].dtype not in (torch.float32, torch.float64):
        return False
    points = bind(weight)["zero_points" if "zero_points" in bind(weight) else "zero_point"]
    points = tensor_at(weight.graph.owning_module, str(points.target)) if isinstance(points, Node) else points
    return not bool(torch.as_tensor(points).any()) and bind(weight).get("axis", 0) == 0


def _scales(module: GraphModule, weight: Node) -> Tensor:
    bound = bind(weight)
    scales = bound["scales" if "scales" in bound else "scale"]
    return tensor_at(module, str(scales.target)) if isinstance(scales, Node) else torch.tensor(scales)
