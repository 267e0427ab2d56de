"""Channels of feature maps are given one range, through residuals and gates."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from hycompile.attributes import storage_key, tensor_at
from hycompile.builder import Builder, building
from hycompile.passes.absorb.operator import LINEAR, linear_operator
from hycompile.passes.absorb.readers import of_several_methods
from hycompile.passes.affine import Affine
from hycompile.passes.equalise_streams.streams import Stream, stream_of
from hycompile.passes.quantise.calibrate import calibrate, require_calibration
from hycompile.passes.quantise.grid import Grid
from hycompile.passes.quantise.observers import OBSERVERS, Observer
from hycompile.pipeline import Check, Pass
from hycompile.program import Program, source_line
from hycompile.reports import Refusal, RuleReport
from hycompile.rewrite import Refused, require
from hycompile.schema import bind, is_call

__all__ = ["EqualiseStreams"]

# Channels that hardly move have no range to speak of.
_LEAST = 1e-3


@dataclass(frozen=True)
class EqualiseStreams(Pass):
    """Channels of feature maps are given one range, through residuals and gates; weights on both sides take it back.

    ``W2 (W1 x + b1 + r) = (W2 diag(f)) ((diag(1/f) W1) x + b1 / f + r / f)``, with a factor for each channel of all
    values that sums, gates, relus, means and moves lie between: a stage of a residual network. Quantised with one
    scale, such a value is then rounded as if each channel had its own, which no runtime takes. ``f = r^strength``,
    ``r`` the channel's range on the calibration set, relative to the others': 1 makes all ranges the same, and the
    weights that read them as uneven; before depthwise convolutions, whose channels have scales of their own, that costs
    nothing.

    Given: values that nothing but convolutions and linears with constant weights makes and reads. Refused where another
    activation, a norm, an input or an output is part of the stream, and for weights with several readers.
    """

    name: ClassVar[str] = "equalise-streams"
    calibrated: ClassVar[bool] = True
    strength: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise ValueError(f"strength {self.strength}; above 0, at most 1")

    def run(self, program: Program, check: Check) -> list[RuleReport]:
        report, start = RuleReport("equalise_streams"), time.perf_counter()
        require_calibration(program)
        shared = of_several_methods(program)
        streams = {
            name: list(_streams(method.graph, shared, report.refusals)) for name, method in program.methods.items()
        }
        observers: dict[str, dict[Node, Observer]] = {
            name: {node: OBSERVERS["minmax"](Grid(8, symmetric=True)) for stream in found for node in _rounded(stream)}
            for name, found in streams.items()
        }
        axes = {node: axis for found in streams.values() for stream in found for node, axis in stream.values.items()}
        calibrate(program, observers, axes)
        for name, found in streams.items():
            module = program.methods[name].graph
            for stream in found:
                ranges = [torch.stack(observers[name][node].ranges()).abs().amax(0) for node in _rounded(stream)]
                _scale(module, stream, self._factors(ranges))
            module.graph.lint()
            module.recompile()
            report.hits += len(found)
        report.seconds = time.perf_counter() - start
        if report.hits:
            check(program, report)
        return [report]

    def _factors(self, ranges: list[Tensor]) -> Tensor:
        """The mean, over the values of a stream, of how large each channel is beside the others, ``[channels]``."""
        logs = [torch.maximum(found, _LEAST * found.amax()).double().log() for found in ranges if found.amax() > 0]
        relative = torch.stack([found - found.mean() for found in logs]).mean(0) if logs else torch.zeros(1).double()
        return (self.strength * relative).exp()


def _streams(module: GraphModule, shared: frozenset[object], refusals: list[Refusal]) -> Iterator[Stream]:
    """Every stream once; an operator that begins one that cannot be scaled is refused."""
    done: set[Node] = set()
    for node in module.graph.nodes:
        if not is_call(node, *LINEAR) or node in done:
            continue
        try:
            stream = stream_of(node)
            for operator in (*stream.producers, *stream.consumers):
                key = storage_key(tensor_at(module, str(bind(operator)["weight"].target)))
                require(key not in shared, "several methods read the weight of {}", operator.name)
        except Refused as refusal:
            refusals.append(Refusal(str(refusal), node.name, source_line(node)))
            continue
        done.update(stream.producers)
        if stream.consumers:
            yield stream


def _rounded(stream: Stream) -> list[Node]:
    """The values that quantisation rounds: what producers give and consumers read."""
    read = (bind(consumer)["input"] for consumer in stream.consumers)
    return list(dict.fromkeys([*stream.producers, *read]))


def _scale(module: GraphModule, stream: Stream, factors: Tensor) -> None:
    none = torch.zeros_like(factors)
    for node in stream.producers:
        with building(Builder(module, node, "equalise_streams")):
            linear_operator(node, None, "", "").scale_output(Affine(1 / factors, none))
    for node in stream.consumers:
        with building(Builder(module, node, "equalise_streams")):
            linear_operator(node, None, "", "").take(Affine(factors, none))
