"""Grids of fewer than 8 bits as runtimes have them: whole numbers of int8, and values kept within the grid before."""

from __future__ import annotations

from torch.fx import GraphModule, Node

from hycompile.builder import Builder, Value
from hycompile.quantisation.nodes import DEQUANTISE_GROUPS, is_dequantise, is_quantise
from hycompile.rewrite import erase_dead
from hycompile.schema import bind, is_call

LOW, HIGH = -128, 127


def as_int8(module: GraphModule) -> int:
    """Let every node use the whole range of int8, in place, and compute the same; returns how many values it clamps.

    Runtimes know the range of the type, and exporters drop a narrower one without a word. A value that is rounded to
    fewer numbers is clamped to what these stand for, which for 8 bits the type does by itself. Weights in groups are
    left alone: runtimes have these in the bits they are of.
    """
    clamped = 0
    for node in list(module.graph.nodes):
        if not (is_quantise(node) or is_dequantise(node)) or is_call(node, DEQUANTISE_GROUPS):
            continue
        numbers, build = bind(node), Builder(module, node, "narrow")
        if (numbers["quant_min"], numbers["quant_max"]) == (LOW, HIGH):
            continue
        if is_quantise(node):
            node.replace_input_with(numbers["input"], _clamped(build, node))
            erase_dead(module, numbers["input"])
            clamped += 1
        build.edit(Value(node), quant_min=LOW, quant_max=HIGH)
    module.recompile()
    return clamped


def _clamped(build: Builder, node: Node) -> Node:
    """As hardtanh, which runtimes compute together with the layer before it; a relu there becomes part of it."""
    numbers = bind(node)
    low, high = (numbers["scale"] * (numbers[end] - numbers["zero_point"]) for end in ("quant_min", "quant_max"))
    given: Node = numbers["input"]
    if is_call(given, "aten.relu") and len(given.users) == 1:
        given, low = given.all_input_nodes[0], max(low, 0.0)
    return build.call("aten.hardtanh", Value(given), low, high).node
