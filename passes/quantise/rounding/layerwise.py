"""Rounds weights again, layer by layer, so that each layer gives what it gave in the float model."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor
from torch.fx import Node

from hycompile.attributes import storage_key, tensor_at
from hycompile.passes.quantise.grid import Grid
from hycompile.passes.quantise.layers import Layer
from hycompile.passes.quantise.ranges import along
from hycompile.passes.quantise.rounding.columns import MULTIPLIED, input_columns, weight_rows
from hycompile.passes.quantise.rounding.gptq import compensated, gptq
from hycompile.passes.quantise.rounding.lockstep import Lockstep, affordable, starts
from hycompile.program import Program
from hycompile.quantisation.plan import QuantisedValue, QuantPlan
from hycompile.schema import bind, is_call

# Positions of all calls together: many for each weight of a row, and no more work than that needs.
_POSITIONS = 1 << 15


def round_layerwise(original: Program, quantised: Program, layers: dict[str, list[Layer]], plan: QuantPlan) -> int:
    """Round weights by GPTQ, in place, each for the inputs it gets once all layers before it are rounded.

    Both Programs run the calibration set side by side, or as many of its calls as memory holds. Weights stay on the
    plan's grids, and nothing else changes. Left as they are: weights of transposed and three-dimensional convolutions,
    and those that several layers of a method read. One that several methods read is rounded for the method with the
    most calibration data.

    Args:
        original: the float model.
        quantised: the plan written into it.
        layers: of ``quantised``, by method.
        plan: the grids.

    Returns:
        How many weights were rounded again.
    """
    done: set[object] = set()
    for name in sorted(quantised.methods, key=lambda name: -_numbers(original, name)):
        walk = _Walk(original, quantised, name)
        for layer, value in _chosen(layers[name], name, plan):
            if walk.calls and (key := storage_key(walk.stored(layer.node))) not in done:
                done.add(key)
                walk.round(layer.node, value)
    return len(done)


def _numbers(program: Program, method: str) -> int:
    """How many numbers the calibration set gives to a method."""
    steps = [step for step in program.calibration if step.method == method]
    return sum(given.numel() for step in steps for given in step.inputs if isinstance(given, Tensor))


def _chosen(layers: list[Layer], method: str, plan: QuantPlan) -> list[tuple[Layer, QuantisedValue]]:
    """Layers that are matrix products, and the only readers of a weight of whole numbers; with its grid."""
    readers = Counter(str(layer.weight.target) for layer in layers if layer.weight is not None)
    found: list[tuple[Layer, QuantisedValue]] = []
    for layer in layers:
        if layer.weight is None or not is_call(layer.node, *MULTIPLIED):
            continue
        value = plan.of(method, str(layer.weight.target))
        if value is not None and readers[value.node] == 1:
            found.append((layer, value))
    return found


class _Walk:
    """A method of the float model and of the quantised one, on the same calls, up to the same layer."""

    def __init__(self, original: Program, quantised: Program, name: str) -> None:
        self._known, self._found = original.methods[name], quantised.methods[name]
        begun = affordable(self._known, starts(original, name))
        self.calls = len(begun)
        self._float, self._rounded = Lockstep(self._known, begun), Lockstep(self._found, begun)
        self._twins = {node.name: node for node in self._known.graph.graph.nodes}

    def stored(self, layer: Node) -> Tensor:
        """The whole numbers of a layer's weight."""
        return tensor_at(self._found.graph, str(bind(layer)["weight"].all_input_nodes[0].target))

    def round(self, layer: Node, value: QuantisedValue) -> None:
        """Round the weight of the next layer; the quantised method goes on with it."""
        twin, dequantise = self._twins[layer.name], bind(layer)["weight"]
        self._float.until(twin)
        self._rounded.until(layer)
        weight = tensor_at(self._known.graph, value.node).detach().double()
        scale = along(torch.tensor(value.scale), weight, value.axis, value.group).double().expand_as(weight)
        own, mixed, sums = self._moments(twin, layer)
        rows = compensated(weight_rows(layer, weight), own, mixed, self._missing(twin, layer, sums))
        whole = gptq(rows, own, Grid(value.bits, value.symmetric), weight_rows(layer, scale))
        self.stored(layer).copy_(whole.reshape(weight.shape))
        self._rounded.again(*dequantise.all_input_nodes, dequantise)

    def _moments(self, twin: Node, layer: Node) -> tuple[Tensor, Tensor, Tensor]:
        """``R R^T``, ``X R^T`` and ``1 R^T``, float64: ``R`` is what a layer reads here, ``X`` in the float model."""
        own, mixed, sums, most = torch.zeros(()), torch.zeros(()), torch.zeros(()), max(1, _POSITIONS // self.calls)
        read = self._float.values(bind(twin)["input"]), self._rounded.values(bind(layer)["input"])
        for wanted, given in zip(*read, strict=True):
            there, here = (input_columns(layer, value, most) for value in (wanted, given))
            own, mixed = own + (here @ here.mT).double(), mixed + (there @ here.mT).double()
            sums = sums + here.sum(2, keepdim=True).mT.double()
        return own, mixed, sums

    def _missing(self, twin: Node, layer: Node, sums: Tensor) -> Tensor:
        """``d 1 R^T`` for what the bias has lost here, ``d``, by rounding or by a search that changed it."""
        known, found = (bind(node)["bias"] for node in (twin, layer))
        if known is None or known.op != "get_attr":
            return torch.zeros(())
        bias, own = (
            tensor_at(method.graph, str(node.target)).detach().double()
            for method, node in ((self._known, known), (self._found, found))
        )
        return (bias - own).reshape(len(sums), -1, 1) * sums
