"""Biases that take back by how much rounding shifts the mean of each channel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, Node

from hycompile.attributes import put_tensor, tensor_at
from hycompile.passes.quantise.cases import recorded
from hycompile.passes.quantise.draft import Draft
from hycompile.passes.quantise.layers import Layer
from hycompile.passes.quantise.ranges import rows_of
from hycompile.passes.quantise.simulation import Simulation, arguments_of
from hycompile.program import Program


def correct_biases(program: Program, name: str, draft: Draft) -> int:
    """Replace biases so that every layer's output has the mean it has in float, channel by channel; returns how many.

    Layers go in graph order, and each sees what the rounded and corrected layers before it give. A bias that something
    else reads stays as it is, and so do those of a method that writes state: its calls depend on each other.

    Source: Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.2,
    the variant that measures.
    """
    method = program.methods[name]
    layers = {layer.node: layer for layer in draft.layers if _has_own_bias(program, layer)}
    if method.mutated() or not layers:
        return 0
    means, inputs = _float_means(program, name, layers)
    if not inputs:
        return 0
    simulation = Simulation(method, draft)
    calls: list[dict[Node, Any]] = [{} for _ in inputs]
    for node, unused in _in_order(method.graph.graph):
        if node.op == "placeholder":
            for values, given in zip(calls, inputs, strict=True):
                values[node] = next(given)
        elif node.op == "call_function":
            results = [simulation.raw(node, values) for values in calls]
            if node in layers:
                axis = _channels(layers[node])
                shift = torch.cat([rows_of(result, axis) for result in results], 1).mean(1) - means[node]
                bias = layers[node].bias
                assert bias is not None
                known = tensor_at(method.graph, str(bias.target)).detach()
                put_tensor(method.graph, str(bias.target), known - shift.to(known.dtype))
                results = [result - _meets(shift, axis, result) for result in results]
            for values, result in zip(calls, results, strict=True):
                values[node] = simulation.settled(node, result)
        for values in calls:
            for source in unused:
                values.pop(source, None)
    return len(layers)


def _has_own_bias(program: Program, layer: Layer) -> bool:
    if layer.bias is None or layer.weight is None:
        return False
    named = (
        node
        for method in program.methods.values()
        for node in method.graph.graph.find_nodes(op="get_attr")
        if node.target == layer.bias.target  # pyright: ignore[reportOptionalMemberAccess]
    )
    return sum(len(node.users) for node in named) == 1


def _channels(layer: Layer) -> int:
    assert layer.weight is not None
    return 1 - layer.weight.meta["val"].ndim


def _float_means(
    program: Program, name: str, layers: dict[Node, Layer]
) -> tuple[dict[Node, Tensor], list[Iterator[object]]]:
    """Means of the layers' outputs over all calls, ``[channels]``, and what each call is given."""
    sums, counts = dict[Node, Tensor](), dict.fromkeys(layers, 0)
    inputs: list[Iterator[object]] = []
    for step, seen in recorded(program, name, layers):
        inputs.append(iter(arguments_of(program.methods[name], step)))
        for node, layer in layers.items():
            rows = rows_of(seen[node], _channels(layer))
            sums[node] = sums.get(node, torch.zeros(())) + rows.sum(1)
            counts[node] += rows.shape[1]
    return {node: total / counts[node] for node, total in sums.items()}, inputs


def _in_order(graph: Graph) -> Iterator[tuple[Node, list[Node]]]:
    """Every node, and the values that nothing reads behind it."""
    last = {source: node for node in graph.nodes for source in node.all_input_nodes}
    unused: dict[Node, list[Node]] = {}
    for source, node in last.items():
        unused.setdefault(node, []).append(source)
    for node in graph.nodes:
        yield node, unused.get(node, [])


def _meets(numbers: Tensor, axis: int, tensor: Tensor) -> Tensor:
    return numbers.reshape(-1, *[1] * (-1 - axis)).to(tensor.dtype)
