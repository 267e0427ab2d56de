"""The nodes of a quantised graph: quantise and dequantise, as torch's own quantisation writes them."""

from __future__ import annotations

import operator

import torch.ao.quantization.fx._decomposed  # noqa: F401  # pyright: ignore[reportUnusedImport] - registers operators
from torch.fx import Node

from hycompile.program import Program
from hycompile.schema import bind, is_call

QUANTISE = "quantized_decomposed.quantize_per_tensor"
DEQUANTISE = "quantized_decomposed.dequantize_per_tensor"
DEQUANTISE_CHANNELS = "quantized_decomposed.dequantize_per_channel"
DEQUANTISE_GROUPS = "quantized_decomposed.dequantize_per_channel_group"
# Ranges found at run time, one for each row along the last axis.
CHOOSE_ROWS = "quantized_decomposed.choose_qparams_per_token_asymmetric"
QUANTISE_ROWS = "quantized_decomposed.quantize_per_token"
DEQUANTISE_ROWS = "quantized_decomposed.dequantize_per_token"
# Runtimes compute these together with the layer before them, so that the sum itself is never rounded.
FUSED = ("aten.relu", "aten.relu6", "aten.hardtanh")
PRODUCTS = ("aten.matmul", "aten.bmm", "aten.mm")
# Operators that give values of their input, in other places: all that comes out lies on the grid that goes in.
MOVES = (
    *("aten.view", "aten.reshape", "aten.permute", "aten.transpose.int", "aten.flatten.using_ints", "aten.clone"),
    *("aten.unflatten.int", "aten.squeeze", "aten.squeeze.dim", "aten.squeeze.dims", "aten.unsqueeze", "aten.expand"),
    *("aten.slice.Tensor", "aten.select.int", "aten.contiguous", "aten.t", "aten.max_pool2d"),
)
_SOME = ("aten.slice.Tensor", "aten.select.int", "aten.max_pool2d")
_PIECES = ("aten.split.Tensor", "aten.split_with_sizes", "aten.unbind.int", "aten.chunk")


def is_quantise(node: object) -> bool:
    """Whether a node rounds floats to whole numbers."""
    return is_call(node, QUANTISE, QUANTISE_ROWS)


def is_dequantise(node: object) -> bool:
    """Whether a node makes floats of whole numbers."""
    return is_call(node, DEQUANTISE, DEQUANTISE_CHANNELS, DEQUANTISE_GROUPS, DEQUANTISE_ROWS)


def is_dynamic(node: object) -> bool:
    """Whether a node makes floats of whole numbers whose range was found at run time."""
    return is_call(node, DEQUANTISE_ROWS)


def is_move(node: object) -> bool:
    """Whether all that comes out of a node are values that go in: on any grid that holds 0, padding with 0 is, too."""
    if is_call(node, *MOVES, *_PIECES):
        return True
    if not isinstance(node, Node) or node.op != "call_function":
        return False
    if is_call(node, "aten.constant_pad_nd"):
        return not bind(node)["value"]
    return node.target is operator.getitem and is_call(node.args[0], *_PIECES)


def is_whole_move(node: object) -> bool:
    """Whether every value that goes into a move comes out again."""
    return (
        is_move(node) and not is_call(node, *_SOME, *_PIECES) and getattr(node, "target", None) is not operator.getitem
    )


def is_layer(node: Node) -> bool:
    """Whether a node reads a weight of whole numbers, or multiplies two rounded values."""
    inputs = node.all_input_nodes
    if is_call(node, *PRODUCTS):
        return all(map(is_dequantise, inputs))
    return any(is_dequantise(source) and source.all_input_nodes[0].op == "get_attr" for source in inputs)


def is_scale(node: Node) -> bool:
    """Whether a constant is nothing but scales of weights: they stay in float32, whatever the Program computes in."""
    operators = (DEQUANTISE_CHANNELS, DEQUANTISE_GROUPS)
    return bool(node.users) and all(is_call(user, *operators) and user.args[1] is node for user in node.users)


def is_quantised(program: Program) -> bool:
    """Whether a Program holds any such node."""
    graphs = (method.graph.graph for method in program.methods.values())
    return any(is_quantise(node) or is_dequantise(node) for graph in graphs for node in graph.nodes)
