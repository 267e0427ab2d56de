"""The nodes of a quantised graph: quantise and dequantise, as torch's own quantisation writes them."""

from __future__ import annotations

import torch.ao.quantization.fx._decomposed  # noqa: F401  # pyright: ignore[reportUnusedImport] - registers operators
from torch.fx import Node

from hycompile.program import Program
from hycompile.schema import is_call

QUANTISE = "quantized_decomposed.quantize_per_tensor"
DEQUANTISE = "quantized_decomposed.dequantize_per_tensor"
DEQUANTISE_CHANNELS = "quantized_decomposed.dequantize_per_channel"


def is_quantise(node: object) -> bool:
    """Whether a node rounds floats to whole numbers."""
    return is_call(node, QUANTISE)


def is_dequantise(node: object) -> bool:
    """Whether a node makes floats of whole numbers."""
    return is_call(node, DEQUANTISE, DEQUANTISE_CHANNELS)


def is_scale(node: Node) -> bool:
    """Whether a constant is nothing but scales of weights: they stay in float32, whatever the Program computes in."""
    return bool(node.users) and all(is_call(user, DEQUANTISE_CHANNELS) and user.args[1] is node for user in node.users)


def is_quantised(program: Program) -> bool:
    """Whether a Program holds any such node."""
    graphs = (method.graph.graph for method in program.methods.values())
    return any(is_quantise(node) or is_dequantise(node) for graph in graphs for node in graph.nodes)
