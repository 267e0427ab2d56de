"""From layers and calibration data to a plan."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import Node

from hycompile.attributes import tensor_at
from hycompile.passes.quantise.calibrate import calibrate
from hycompile.passes.quantise.grid import Grid
from hycompile.passes.quantise.layers import Layer, Survey, points
from hycompile.passes.quantise.observers import OBSERVERS, Observer
from hycompile.program import Method, Program
from hycompile.quantisation.plan import KeptLayer, QuantisedValue, QuantPlan, Role


@dataclass(frozen=True)
class Scheme:
    """How values of one role are rounded: ``channels`` gives each output channel a scale, where there are any."""

    grid: Grid
    observer: str
    channels: bool = False


def make_plan(program: Program, surveys: dict[str, Survey], weights: Scheme, activations: Scheme | None) -> QuantPlan:
    """Choose a grid for every value; without a scheme for activations these stay in float.

    Raises:
        PassError: calibration data that does not reach a value, or makes it NaN or infinite.
    """
    values: list[QuantisedValue] = []
    observers: dict[str, dict[Node, Observer]] = {}
    if activations is not None:
        for name, found in surveys.items():
            sources = dict.fromkeys(source for _, source in points(found.layers))
            observers[name] = {source: OBSERVERS[activations.observer](activations.grid) for source in sources}
        calibrate(program, observers)
    kept: list[KeptLayer] = []
    for name, found in surveys.items():
        grids: dict[Node, QuantisedValue] = {}
        if activations is not None:
            grids = {
                point: _value(name, point.name, "activation", None, observers[name][source], activations)
                for point, source in points(found.layers)
            }
        values += [*_weights(name, program.methods[name], found.layers, weights, grids), *grids.values()]
        kept += [KeptLayer(method=name, node=node.name, reason=why) for node, why in found.kept]
    return QuantPlan(values=tuple(values), kept=tuple(kept))


# Sums are held in 32 bits; a bit is left for what is added to the bias.
_LARGEST_BIAS = 2**30


def rows_of(weight: Tensor, axis: int | None) -> Tensor:
    """A weight as ``[channels, values]``; one row without an axis."""
    return weight.reshape(1, -1) if axis is None else weight.movedim(axis, 0).flatten(1)


def _weights(
    name: str, method: Method, layers: list[Layer], scheme: Scheme, grids: dict[Node, QuantisedValue]
) -> list[QuantisedValue]:
    """A grid for each weight, coarse enough that the biases of its layers fit into 32 bits on the grid of the sums."""
    found: dict[str, QuantisedValue] = {}
    for layer in layers:
        if layer.weight is None:
            continue
        weight, axis = str(layer.weight.target), layer.axis if scheme.channels else None
        if weight not in found:
            observer = OBSERVERS[scheme.observer](scheme.grid)
            observer.see(rows_of(tensor_at(method.graph, weight).detach().float(), axis))
            found[weight] = _value(name, weight, "weight", axis, observer, scheme)
        given = grids.get(layer.inputs[0])
        if layer.bias is not None and given is not None:
            bias = tensor_at(method.graph, str(layer.bias.target)).detach().abs()
            least = (bias if axis is not None else bias.amax()) / (given.scale[0] * _LARGEST_BIAS)
            scale = torch.maximum(torch.tensor(found[weight].scale), torch.atleast_1d(least.float()))
            found[weight] = found[weight].model_copy(update={"scale": tuple(scale.tolist())})
    return list(found.values())


def _value(name: str, node: str, role: Role, axis: int | None, observer: Observer, scheme: Scheme) -> QuantisedValue:
    scale, zero_point = scheme.grid.parameters(*observer.ranges())
    return QuantisedValue(
        method=name,
        node=node,
        role=role,
        bits=scheme.grid.bits,
        symmetric=scheme.grid.symmetric,
        axis=axis,
        observer=scheme.observer,
        scale=tuple(torch.atleast_1d(scale).tolist()),
        zero_point=tuple(torch.atleast_1d(zero_point).tolist()),
    )
