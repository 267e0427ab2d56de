"""Grids as coremltools takes them."""

from __future__ import annotations

import torch
from torch.fx import Graph, GraphModule, Node

from hycompile.attributes import tensor_at
from hycompile.builder import Builder, Value
from hycompile.quantisation.nodes import DEQUANTISE, DEQUANTISE_CHANNELS, MOVES, QUANTISE
from hycompile.rewrite import erase_dead
from hycompile.schema import bind, is_call

# It takes a reshape between dequantise and quantise as one of whole numbers, and never compares the two grids.
ONE_GRID_PASS = "common::int_op_canonicalization"


def changes_grid(graph: Graph) -> bool:
    """Whether a value on one grid is moved about and then rounded to another."""
    return any(_differs(node) for node in graph.nodes if is_call(node, QUANTISE))


def narrow_zero_points(module: GraphModule) -> int:
    """Zero points of weights in int8, as these are. coremltools would cast them, which MIL does from iOS17 on only."""
    found = [node for node in module.graph.nodes if is_call(node, DEQUANTISE_CHANNELS)]
    for node in found:
        points: Node = bind(node)["zero_points"]
        build = Builder(module, node, "zero_points")
        build.edit(Value(node), zero_points=tensor_at(module, str(points.target)).to(torch.int8))
        erase_dead(module, points)
    return len(found)


def _differs(node: Node) -> bool:
    source = node.all_input_nodes[0]
    while is_call(source, *MOVES):
        source = source.all_input_nodes[0]
    if not is_call(source, DEQUANTISE):
        return False
    before, after = bind(source), bind(node)
    return any(before.get(name) != after[name] for name in ("scale", "zero_point"))
