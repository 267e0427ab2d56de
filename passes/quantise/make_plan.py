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
from hycompile.passes.quantise.linears import fit_group
from hycompile.passes.quantise.observers import OBSERVERS, Observer
from hycompile.program import Method, Program
from hycompile.quantisation.plan import KeptLayer, QuantisedValue, QuantPlan, Role
from hycompile.schema import is_call


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


def make_plan(program: Program, surveys: dict[str, Survey], weights: Scheme, activations: Scheme | None) -> QuantPlan:
    """Choose a grid for every value; without a scheme for activations these stay in float.

    Raises:
        PassError: calibration data that does not reach a value, or makes it NaN or infinite.
    """
    values: list[QuantisedValue] = []
    observers: dict[str, dict[Node, Observer]] = {}
    if activations is not None and not activations.dynamic:
        for name, found in surveys.items():
            sources = dict.fromkeys(source for _, source in points(found.layers))
            observers[name] = {source: OBSERVERS[activations.observer](activations.grid) for source in sources}
        calibrate(program, observers)
    kept: list[KeptLayer] = []
    for name, found in surveys.items():
        grids: dict[Node, QuantisedValue] = {}
        if activations is not None:
            grids = {
                point: _dynamic(name, point.name)
                if activations.dynamic
                else _value(name, point.name, "activation", None, observers[name][source], activations)
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


def _group(layer: Layer, weight: Tensor, axis: int | None, scheme: Scheme) -> int | None:
    grouped = scheme.group and axis == 0 and is_call(layer.node, "aten.linear")
    return fit_group(weight.shape[1], scheme.group) if grouped else None


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
            numbers = tensor_at(method.graph, weight).detach().float()
            group = _group(layer, numbers, axis, scheme)
            observer.see(rows_of(numbers, axis) if group is None else numbers.reshape(-1, group))
            found[weight] = _value(name, weight, "weight", axis, observer, scheme, group)
        given = grids.get(layer.inputs[0])
        if layer.bias is not None and given is not None and not given.dynamic and found[weight].group is None:
            bias = tensor_at(method.graph, str(layer.bias.target)).detach().abs()
            least = (bias if axis is not None else bias.amax()) / (given.scale[0] * _LARGEST_BIAS)
            scale = torch.maximum(torch.tensor(found[weight].scale), torch.atleast_1d(least.float()))
            found[weight] = found[weight].model_copy(update={"scale": tuple(scale.tolist())})
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


def _value(
    name: str, node: str, role: Role, axis: int | None, observer: Observer, scheme: Scheme, group: int | None = None
) -> QuantisedValue:
    scale, zero_point = scheme.grid.parameters(*observer.ranges())
    if group is not None:
        # As runtimes store them: XNNPACK has no other, and the simulation must not be finer than an artifact.
        scale = scale.bfloat16().float()
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
        group=group,
    )
