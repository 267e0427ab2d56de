"""What two linear operators in a row compute together, when one of them reads single positions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from hycompile.builder import Value, call
from hycompile.passes.affine import Affine, input_bias
from hycompile.passes.merge_convolutions.branch import Branch, branch_of, keeps_size
from hycompile.passes.merge_convolutions.cost import require_no_growth
from hycompile.passes.merge_convolutions.geometry import Geometry, regrouped
from hycompile.rewrite import require


@dataclass(frozen=True)
class Composition:
    """``second(first(x))`` as one convolution of this geometry and these groups."""

    first: Branch
    second: Branch
    geometry: Geometry
    groups: int

    @property
    def bordered(self) -> bool:
        """Whether the second pads with zeros what the first has shifted."""
        return self.first.bias is not None and bool(self.first.bias.any()) and any(self.second.geometry.padding)

    def build(self) -> Value:
        """The convolution; where the second pads, what the first's bias adds is a map of the output's size."""
        operator, source = f"aten.conv{self.second.axes}d", Value(self.first.source)
        arguments = (*self.geometry.arguments(), self.groups)
        if self.bordered:
            return call("aten.add.Tensor", call(operator, source, self._weight(), None, *arguments), self._bias_map())
        return call(operator, source, self._weight(), self._bias(), *arguments)

    def _weight(self) -> Tensor:
        """``W2 W1``: ``[out, in / groups, *taps]``; the taps are those of whichever has several."""
        inner = regrouped(self.first.weight.double(), self.first.groups, self.groups)
        outer = regrouped(self.second.weight.double(), self.second.groups, self.groups)
        product = torch.einsum(
            "gomt,gmcs->gocts",
            outer.reshape(self.groups, -1, outer.shape[1], math.prod(outer.shape[2:])),
            inner.reshape(self.groups, outer.shape[1], inner.shape[1], math.prod(inner.shape[2:])),
        )
        return product.reshape(outer.shape[0], inner.shape[1], *self.geometry.taps)

    def _bias(self) -> Tensor | None:
        """``b2 + W2 b1`` summed over taps: ``[out]``."""
        first, second = self.first.bias, self.second.bias
        if first is None:
            return second
        added = input_bias(self.second.weight, Affine(torch.ones_like(first), first.double()), self.second.groups)
        return added if second is None else added + second.double()

    def _bias_map(self) -> Tensor:
        """What the second makes of the constant ``b1``, borders included: ``[1, out, ...]`` of the static size."""
        axes, shift = self.second.axes, self.first.bias
        sizes = self.first.node.meta["val"].shape[-axes:]
        constant_input = shift.double().reshape(1, -1, *[1] * axes).expand(1, -1, *sizes)  # type: ignore[union-attr]
        bias = None if self.second.bias is None else self.second.bias.double()
        convolve = getattr(torch.nn.functional, f"conv{axes}d")
        geometry = self.second.geometry.arguments()
        response = convolve(constant_input, self.second.weight.double(), bias, *geometry, self.second.groups)
        return response if len(self.first.node.meta["val"].shape) == axes + 2 else response[0]


def compose(first: Node, conv: Node) -> Composition:
    """The two as one convolution, provided it is exact and costs no more; one of them reads single positions."""
    module = conv.graph.owning_module
    inner, outer = branch_of(module, first), branch_of(module, conv)  # type: ignore[arg-type]
    users = len(first.users)
    require(users == 1, "{} has {} users, the others need it by itself", first.name, users)
    if outer.geometry.reads_itself:
        geometry = inner.geometry.after(outer.geometry.stride)
    else:
        stride = inner.geometry.stride
        require(
            set(stride) == {1},
            "{} takes every {}th position only, and {} reads several of those",
            first.name,
            stride,
            conv.name,
        )
        geometry = outer.geometry
    require(
        keeps_size(geometry, inner.source, conv),
        "{} pads one end more than the other: no symmetric padding gives both in one the size {}",
        (first if outer.geometry.reads_itself else conv).name,
        list(conv.meta["val"].shape),
    )
    merged = Composition(inner, outer, geometry, math.gcd(inner.groups, outer.groups))
    sizes = list(first.meta["val"].shape[-inner.axes :])
    static = all(isinstance(size, int) for size in sizes)
    require(
        static or not merged.bordered,
        "{} adds a bias inside the padding of {}, and its size {} is dynamic: the bias map needs a fixed one",
        first.name,
        conv.name,
        sizes,
    )
    _require_no_growth(merged, sizes)
    return merged


def _require_no_growth(merged: Composition, sizes: list[Any]) -> None:
    """Compares multiply-accumulates an image, or an output position where sizes are dynamic."""
    first, second = merged.first, merged.second
    result = list(second.node.meta["val"].shape[-second.axes :])
    positions: list[Any] = [math.prod(sizes), math.prod(result)]
    if not all(isinstance(count, int) for count in positions):
        ratio = math.prod(second.geometry.stride)
        positions = [ratio, 1]
    one = second.weight.shape[0] * (first.inputs // merged.groups) * math.prod(merged.geometry.taps)
    apart = first.macs * positions[0] + second.macs * positions[1]
    require_no_growth(one * positions[1], apart, f"{first.node.name} and {second.node.name}")
