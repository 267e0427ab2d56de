"""Weights of layers in a row are given the same range, channel by channel."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from hycompile.builder import Builder, Value
from hycompile.errors import PassError
from hycompile.passes.absorb.consumers import find_consumers
from hycompile.passes.absorb.operator import LINEAR, LinearOperator, linear_operator
from hycompile.passes.absorb.readers import readers_of
from hycompile.passes.affine import Affine, channel_axis, input_scaled, output_scaled
from hycompile.pipeline import Check, Pass
from hycompile.program import Program, source_line
from hycompile.reports import Refusal, RuleReport
from hycompile.rewrite import Refused, erase_dead, require
from hycompile.schema import bind, is_call

_SWEEPS, _NEAR = 50, 0.01


class EqualiseLayers(Pass):
    """Weights of layers in a row are given the same range, channel by channel.

    ``W2 f(W1 x + b1) = (W2 diag(s)) f(diag(1/s) (W1 x + b1))`` for ``s > 0`` and ``f`` homogeneous, such as relu or a
    pool. ``s = sqrt(r1 / r2)``, with the largest weights ``r1`` of an output channel and ``r2`` of the input channels
    that read it; behind it both are the same. A layer between two others (a depthwise convolution) is equalised with
    each in turn until nothing moves by more than 1 %. Meant for ``quantise`` after it, above all for weights with one
    scale.

    Given: a convolution or linear whose every use ends in convolutions or linears, through relu, moves, pools, means,
    selections and products. Refused behind any other activation, at a residual, and for weights with several readers.

    Source: Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.1.
    Left out: the absorption of high biases, which changes what the network computes, and relu6, which they replace.
    """

    name: ClassVar[str] = "equalise-layers"

    def run(self, program: Program, check: Check) -> list[RuleReport]:
        report, start = RuleReport("equalise_layers"), time.perf_counter()
        if program.on_meta:
            raise PassError(f"program {program.name!r}", "is on the meta device: it has no values", "load its weights")
        for method in program.methods.values():
            report.hits += _equalise(method.graph, report.refusals)
        report.seconds = time.perf_counter() - start
        if report.hits:
            check(program, report)
        return [report]


@dataclass(frozen=True)
class _Pair:
    producer: Node
    consumers: tuple[Node, ...]


def _equalise(module: GraphModule, refusals: list[Refusal]) -> int:
    pairs, layers = list[_Pair](), dict[Node, _Layer]()
    for node in module.graph.nodes:
        if not is_call(node, *LINEAR):
            continue
        try:
            producer, *consumers = found = list(_pair(module, node))
        except Refused as refusal:
            refusals.append(Refusal(str(refusal), node.name, source_line(node)))
            continue
        for operator in found:
            layers.setdefault(operator.node, _Layer(operator))
        pairs.append(_Pair(producer.node, tuple(each.node for each in consumers)))
    moved = set[_Pair]()
    for _ in range(_SWEEPS):
        now = [pair for pair in pairs if _balance(layers[pair.producer], [layers[node] for node in pair.consumers])]
        moved.update(now)
        if not now:
            break
    for layer in layers.values():
        layer.write(module)
    if moved:
        module.graph.lint()
        module.recompile()
    return len(moved)


def _pair(module: GraphModule, node: Node) -> Iterator[LinearOperator]:
    """A layer and those that read it; refused where a factor would be seen elsewhere."""
    axis = channel_axis(node)
    require(axis is not None, "{} works without a batch axis", node.name)
    producer = linear_operator(node, axis, "the factor", "the channels of {} lie on")
    positive = Affine(torch.ones(producer.outputs).double(), torch.zeros(producer.outputs).double())
    for operator in (producer, *find_consumers(node, axis, positive, "the factor")):
        readers = len(readers_of(module, bind(operator.node)["weight"]))
        require(readers == 1, "the weight of {} has {} readers", operator.node.name, readers)
        yield operator


class _Layer:
    """A layer whose weight is scaled here, and in the graph once at the end; all in float64."""

    def __init__(self, operator: LinearOperator) -> None:
        self.operator, self.weight = operator, operator.weight.double()
        self.bias = None if operator.bias is None else operator.bias.double()
        self.changed = False

    def output_ranges(self) -> Tensor:
        """Largest weight of each output channel."""
        if not self.operator.transposed:
            return self.weight.abs().flatten(1).amax(1)
        return self._grouped().amax((1, 3)).flatten()

    def input_ranges(self) -> Tensor:
        """Largest weight of each input channel."""
        if self.operator.transposed:
            return self.weight.abs().flatten(1).amax(1)
        return self._grouped().amax((1, 3)).flatten()

    def scale_outputs(self, factors: Tensor) -> None:
        affine, self.changed = Affine(factors, torch.zeros_like(factors)), True
        self.weight = output_scaled(self.weight, affine, self.operator.groups, self.operator.transposed)
        self.bias = None if self.bias is None else self.bias * factors

    def scale_inputs(self, factors: Tensor) -> None:
        affine, self.changed = Affine(factors, torch.zeros_like(factors)), True
        self.weight = input_scaled(self.weight, affine, self.operator.groups, self.operator.transposed)

    def write(self, module: GraphModule) -> None:
        """Put weight and bias into the graph, if they have changed."""
        if not self.changed:
            return
        node, a = self.operator.node, bind(self.operator.node)
        Builder(module, node, "equalise_layers").edit(Value(node), weight=self.weight, bias=self.bias)
        for old in (a["weight"], a["bias"]):
            if isinstance(old, Node):
                erase_dead(module, old)

    def _grouped(self) -> Tensor:
        """``[groups, first axis, second axis, taps]``, the first axis split into groups."""
        groups, (first, second) = self.operator.groups, self.weight.shape[:2]
        return self.weight.abs().reshape(groups, first // groups, second, -1)


def _balance(producer: _Layer, consumers: list[_Layer]) -> bool:
    """Give a layer and its readers the same ranges; returns whether they were not near that already."""
    before = producer.output_ranges()
    behind = torch.stack([consumer.input_ranges() for consumer in consumers]).amax(0)
    factors = torch.where((before > 0) & (behind > 0), (before / behind).sqrt(), 1.0)
    if bool(((factors - 1).abs() <= _NEAR).all()):
        return False
    producer.scale_outputs(1 / factors)
    for consumer in consumers:
        consumer.scale_inputs(factors)
    return True
