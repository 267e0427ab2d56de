"""Linears whose inputs' ranges are found at run time: XNNPACK's qd8, its weights of 8 and 4 bits."""

from __future__ import annotations

from collections.abc import Iterator

from torch.fx import GraphModule, Node

from hycompile.attributes import tensor_at
from hycompile.backend import Obstacle
from hycompile.backends.executorch.quantised import reads_rows
from hycompile.builder import Builder, Value
from hycompile.program import Program, source_line
from hycompile.quantisation.nodes import DEQUANTISE, DEQUANTISE_CHANNELS, DEQUANTISE_GROUPS
from hycompile.schema import bind, is_call

# What XNNPACK's weights of four bits range over; its partitioner knows them by that.
_LOW, _HIGH = -8, 7
_STEP = 32


def refused_weights(program: Program) -> list[Obstacle]:
    """One fatal obstacle for each such linear whose weight has no form in XNNPACK."""
    return [
        Obstacle("aten.linear", 1, reason, way_out, source_line(weight))
        for method in program.methods.values()
        for weight in _weights(method.graph)
        if (found := _refusal(weight)) is not None
        for reason, way_out in (found,)
    ]


def to_four_bits(program: Program) -> int:
    """Let weights that fit into four bits range over these, in place; returns how many.

    The numbers stay as they are. A weight beside an input whose range is known ahead is none of them: XNNPACK has that
    in 8 bits only.
    """
    return sum(_to_four_bits(method.graph) for method in program.methods.values())


def _to_four_bits(module: GraphModule) -> int:
    found = 0
    for weight in _weights(module):
        numbers = tensor_at(module, str(weight.all_input_nodes[0].target))
        if int(numbers.amin()) >= _LOW and int(numbers.amax()) <= _HIGH and numbers.shape[1] % 2 == 0:
            Builder(module, weight, "four_bits").edit(Value(weight), quant_min=_LOW, quant_max=_HIGH)
            found += 1
    return found


def _weights(module: GraphModule) -> Iterator[Node]:
    for node in module.graph.nodes:
        if is_call(node, DEQUANTISE, DEQUANTISE_CHANNELS, DEQUANTISE_GROUPS) and any(map(reads_rows, node.users)):
            yield node


def _refusal(weight: Node) -> tuple[str, str] | None:
    """Why, and what to ask for instead."""
    if is_call(weight, DEQUANTISE):
        reason = "XNNPACK multiplies inputs whose ranges are found at run time by weights with a scale for each channel"
        return reason, "quantise{weights=channel}"
    if not is_call(weight, DEQUANTISE_GROUPS):
        return None
    given = bind(weight)
    if given["quant_min"] < _LOW or given["quant_max"] > _HIGH:
        return "XNNPACK has weights in groups in 4 bits only", "quantise{bits=4}, or leave group out"
    if given["group_size"] % _STEP:
        return f"XNNPACK has groups of multiples of {_STEP}, found {given['group_size']}", f"quantise{{group={_STEP}}}"
    return None
