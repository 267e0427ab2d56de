"""From layers and calibration data to a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import Node

from hycompile.attributes import tensor_at
from hycompile.passes.quantise.calibrate import calibrate
from hycompile.passes.quantise.draft import Draft
from hycompile.passes.quantise.grid import Grid
from hycompile.passes.quantise.layers import Layer, Survey, points
from hycompile.passes.quantise.linears import fit_group
from hycompile.passes.quantise.observers import OBSERVERS, Observer
from hycompile.passes.quantise.ranges import Range, rows_of
from hycompile.program import Method, Program
from hycompile.quantisation.plan import KeptLayer, QuantisedValue, QuantPlan, Role
from hycompile.schema import is_call

# Sums are held in 32 bits; a bit is left for what is added to the bias.
_LARGEST_BIAS = 2**30


@dataclass(frozen=True)
class Scheme:
    """How values of one role are rounded.

    Args:
        grid: what to.
        observer: what chooses ranges.
        channels: each output channel has a scale, where there are any.
        group: so many weights along a linear's inputs have one (:func:`fit_group`); 0 for the whole channel.
        dynamic: ranges are found at run time.
    """

    grid: Grid
    observer: str
    channels: bool = False
    group: int = 0
    dynamic: bool = False


def observe(
    program: Program, surveys: Mapping[str, Survey], weights: Scheme, activations: Scheme | None
) -> dict[str, Draft]:
    """The ranges that observers choose; without a scheme for activations these stay in float.

    Raises:
        PassError: calibration data that does not reach a value, or makes it NaN or infinite.
    """
    drafts = {
        name: Draft(found.layers, _weights_seen(program.methods[name], found, weights), {}, {})
        for name, found in surveys.items()
    }
    if activations is None:
        return drafts
    if activations.dynamic:
        for draft in drafts.values():
            draft.dynamic = tuple(point for point, _ in points(draft.layers))
        return drafts
    observers: dict[str, dict[Node, Observer]] = {}
    for name, draft in drafts.items():
        draft.sources.update(points(draft.layers))
        observers[name] = {
            source: OBSERVERS[activations.observer](activations.grid)
            for source in dict.fromkeys(draft.sources.values())
        }
    calibrate(program, observers)
    for name, draft in drafts.items():
        for source, observer in observers[name].items():
            draft.values[source] = Range(*observer.ranges(), activations.grid, activations.observer)
    return drafts


def _weights_seen(method: Method, found: Survey, scheme: Scheme) -> dict[str, Range]:
    ranges: dict[str, Range] = {}
    for layer in found.layers:
        if layer.weight is not None and str(layer.weight.target) not in ranges:
            name, axis = str(layer.weight.target), layer.axis if scheme.channels else None
            weight, observer = tensor_at(method.graph, name).detach().float(), OBSERVERS[scheme.observer](scheme.grid)
            group = _group(layer, weight, axis, scheme)
            observer.see(rows_of(weight, axis, group))
            ranges[name] = Range(*observer.ranges(), scheme.grid, scheme.observer, axis, group)
    return ranges


def _group(layer: Layer, weight: Tensor, axis: int | None, scheme: Scheme) -> int | None:
    grouped = scheme.group and axis == 0 and is_call(layer.node, "aten.linear")
    return fit_group(weight.shape[1], scheme.group) if grouped else None


def make_plan(program: Program, surveys: Mapping[str, Survey], drafts: Mapping[str, Draft]) -> QuantPlan:
    """The grids of all ranges, in graph order."""
    values: list[QuantisedValue] = []
    kept: list[KeptLayer] = []
    for name, draft in drafts.items():
        grids = {
            point: _value(name, point.name, "activation", draft.values[source])
            for point, source in draft.sources.items()
        } | {point: _dynamic(name, point.name) for point in draft.dynamic}
        values += [*_weights(name, program.methods[name], draft, grids), *grids.values()]
        kept += [KeptLayer(method=name, node=node.name, reason=why) for node, why in surveys[name].kept]
    return QuantPlan(values=tuple(values), kept=tuple(kept))


def _weights(name: str, method: Method, draft: Draft, grids: dict[Node, QuantisedValue]) -> list[QuantisedValue]:
    """A grid for each weight, coarse enough that the biases of its layers fit into 32 bits on the grid of the sums."""
    found = {weight: _value(name, weight, "weight", kept) for weight, kept in draft.weights.items()}
    for layer in draft.layers:
        given = grids.get(layer.inputs[0])
        if layer.weight is None or layer.bias is None or given is None or given.dynamic:
            continue
        weight = found[str(layer.weight.target)]
        if weight.group is not None:
            continue
        bias = tensor_at(method.graph, str(layer.bias.target)).detach().abs()
        least = (bias if weight.axis is not None else bias.amax()) / (given.scale[0] * _LARGEST_BIAS)
        scale = torch.maximum(torch.tensor(weight.scale), torch.atleast_1d(least.float()))
        found[weight.node] = weight.model_copy(update={"scale": tuple(scale.tolist())})
    return list(found.values())


def _dynamic(name: str, node: str) -> QuantisedValue:
    return QuantisedValue(
        method=name,
        node=node,
        role="activation",
        bits=8,
        symmetric=False,
        axis=None,
        observer="row",
        scale=(),
        zero_point=(),
        dynamic=True,
    )


def _value(name: str, node: str, role: Role, found: Range) -> QuantisedValue:
    scale, zero_point = found.parameters()
    return QuantisedValue(
        method=name,
        node=node,
        role=role,
        bits=found.grid.bits,
        symmetric=found.grid.symmetric,
        axis=found.axis,
        observer=found.by,
        scale=tuple(torch.atleast_1d(scale).tolist()),
        zero_point=tuple(torch.atleast_1d(zero_point).tolist()),
        group=found.group,
    )
