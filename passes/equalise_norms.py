"""Channels behind a norm are given one range, which their layers take back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from hycompile.attributes import storage_key, tensor_at
from hycompile.builder import Builder, Value, building, edit
from hycompile.passes.absorb.consumers import find_consumers
from hycompile.passes.absorb.operator import LinearOperator
from hycompile.passes.absorb.readers import of_several_methods
from hycompile.passes.affine import Affine
from hycompile.passes.fold_norm_affine import NORMS, channel_axis
from hycompile.passes.quantise.calibrate import calibrate, require_calibration
from hycompile.passes.quantise.grid import Grid
from hycompile.passes.quantise.observers import OBSERVERS
from hycompile.pipeline import Check, Pass
from hycompile.program import Program, constant, source_line
from hycompile.reports import Refusal, RuleReport
from hycompile.rewrite import Refused, require
from hycompile.schema import bind, is_call

# FQ-ViT's K: factors from 1 to 2^3.
_POWERS = 3
# Channels that hardly move have no range to speak of.
_LEAST = 1e-4


@dataclass(frozen=True)
class EqualiseNorms(Pass):
    """Channels behind a norm are given the same range, and the layers that read them take it back.

    ``N(x) W + b = ((N(x) - m) / f) (diag(f) W) + (b + m W)``, with a factor ``f`` and a shift ``m`` for each channel.
    Quantised with one scale, the channels are then rounded as if each had a scale and a zero point of its own, which no
    runtime offers: RepQ-ViT. Ranges come from the calibration set. ``factors=powers`` allows 1, 2, 4 and 8 only, and no
    shift: FQ-ViT's. ``observer`` chooses ranges: ``minmax``, ``percentile`` or ``mse``. Put it between
    ``reparameterise``, which folds such factors, and ``quantise``.

    Given: a layer, group or RMS norm, all of whose uses end in convolutions or linears. There is no shift for an RMS
    norm, which has no bias, nor before a padded convolution. Refused when a use is not linear, as for
    ``fold-norm-affine``.

    Source: Li et al. 2023, "RepQ-ViT: Scale Reparameterization for Post-Training Quantization of Vision Transformers",
    section 3.2; Lin et al. 2022, "FQ-ViT: Post-Training Quantization for Fully Quantized Vision Transformer", section
    3.2. Both round softmax on logarithmic grids as well, which is left out: no runtime here has them, and softmax is in
    float. FQ-ViT's factors are those of values before the norm, which here are in float, too.
    """

    name: ClassVar[str] = "equalise-norms"
    calibrated: ClassVar[bool] = True
    factors: str = "free"
    observer: str = "minmax"

    def __post_init__(self) -> None:
        if self.factors not in ("free", "powers"):
            raise ValueError(f"factors {self.factors!r}; free or powers")
        if self.observer not in OBSERVERS:
            raise ValueError(f"no observer {self.observer!r}; one of {', '.join(OBSERVERS)}")

    def run(self, program: Program, check: Check) -> list[RuleReport]:
        report, start = RuleReport("equalise_norms"), time.perf_counter()
        require_calibration(program)
        shared = of_several_methods(program)
        places = {
            name: list(_places(method.graph, shared, report.refusals)) for name, method in program.methods.items()
        }
        # Of 8 bits whatever follows: the observers' choice of a range hardly depends on it.
        grid = Grid(8, symmetric=False)
        observers = {
            name: {place.norm: OBSERVERS[self.observer](grid) for place in found} for name, found in places.items()
        }
        calibrate(program, observers, {place.norm: place.axis for found in places.values() for place in found})
        for name, found in places.items():
            for place in found:
                place.equalise(self._map(*observers[name][place.norm].ranges(), place.shifts))
            program.methods[name].graph.graph.lint()
            program.methods[name].graph.recompile()
            report.hits += len(found)
        report.seconds = time.perf_counter() - start
        if report.hits:
            check(program, report)
        return [report]

    def _map(self, low: Tensor, high: Tensor, shifts: bool) -> Affine:
        """What the layers behind take back: factor and shift of each channel, ``[channels]``."""
        shifts = shifts and self.factors == "free"
        low, high = low.double(), high.double()
        reach = (high - low) / 2 if shifts else torch.maximum(low.abs(), high.abs())
        shift = (high + low) / 2 if shifts else torch.zeros_like(reach)
        least = _LEAST * reach.amax()
        reach = torch.where(reach > least, reach, reach.mean())
        if self.factors == "free":
            return Affine(reach / reach.mean(), shift)
        powers = (reach / reach.amax()).log2().ceil() + _POWERS
        return Affine(2 ** powers.clamp(0, _POWERS), shift)


@dataclass(frozen=True)
class _Place:
    """A norm and the layers that read it; ``shifts`` says whether they can take a shift, too."""

    module: GraphModule
    norm: Node
    axis: int
    consumers: tuple[LinearOperator, ...]
    shifts: bool

    def equalise(self, back: Affine) -> None:
        """Let the norm undo ``back``, and the layers do it."""
        a, module = bind(self.norm), self.module
        given = {name: constant(module, a[name]) for name in ("weight", "bias") if a.get(name) is not None}
        weight, bias = (None if tensor is None else tensor.double() for tensor in map(given.get, ("weight", "bias")))
        changed = {"weight": 1 / back.scale if weight is None else weight / back.scale}
        if bias is not None or back.shifts:
            changed["bias"] = ((0 if bias is None else bias) - back.shift) / back.scale
        with building(Builder(module, self.norm, "equalise_norms")):
            edit(Value(self.norm), **changed)
            for consumer in self.consumers:
                consumer.take(back)


def _places(module: GraphModule, shared: frozenset[object], refusals: list[Refusal]) -> Iterator[_Place]:
    for node in module.graph.nodes:
        if not is_call(node, *NORMS):
            continue
        try:
            yield _place(module, node, shared)
        except Refused as refusal:
            refusals.append(Refusal(str(refusal), node.name, source_line(node)))


def _place(module: GraphModule, norm: Node, shared: frozenset[object]) -> _Place:
    a, axis = bind(norm), channel_axis(norm)
    if axis is None:
        raise Refused(f"{norm.name} normalises over {a['normalized_shape']}, several axes")
    for name in ("weight", "bias"):
        known = a.get(name) is None or constant(module, a[name]) is not None
        require(known, "the {} of {} is not a constant", name, norm.name)
    channels = norm.meta["val"].shape[axis]
    one = torch.ones(channels, dtype=torch.float64)
    shifts = "bias" in a
    try:
        require(shifts, "")
        consumers = find_consumers(norm, axis, Affine(one, one), "the shift")
        require(not any(consumer.shifted_border(Affine(one, one)) for consumer in consumers), "")
    except Refused:
        shifts, consumers = False, find_consumers(norm, axis, Affine(one, 0 * one), "the factor")
    for consumer in consumers:
        key = storage_key(tensor_at(module, str(bind(consumer.node)["weight"].target)))
        require(key not in shared, "several methods read the weight of {}", consumer.node.name)
    return _Place(module, norm, axis, tuple(consumers), shifts)
