"""A per-channel affine map ``scale * x + shift``, such as a batch norm at inference, and linear operators' arithmetic.

All arithmetic is float64; the graph's own precision is restored when the result becomes a buffer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import Node

from hycompile.builder import Value
from hycompile.schema import bind, is_call

CONVOLUTIONS = (
    "aten.conv1d",
    "aten.conv2d",
    "aten.conv3d",
    "aten.conv1d.padding",
    "aten.conv2d.padding",
    "aten.conv3d.padding",
)
TRANSPOSED = ("aten.conv_transpose1d", "aten.conv_transpose2d.input", "aten.conv_transpose3d.input")


@dataclass(frozen=True)
class Affine:
    """``scale * x + shift`` along one axis; both are ``[channels]``, float64. One value stands for all channels."""

    scale: Tensor
    shift: Tensor

    @property
    def uniform(self) -> bool:
        """Whether it is the same map everywhere, whatever the axis."""
        return self.scale.numel() == 1

    @property
    def shifts(self) -> bool:
        """Whether it adds anything: zero does not stay zero."""
        return bool((self.shift != 0).any())

    def over(self, channels: int) -> Affine:
        """The same map with one value per channel."""
        return Affine(self.scale.expand(channels), self.shift.expand(channels))

    def then(self, later: Affine) -> Affine:
        """The map ``later(self(x))``."""
        return Affine(later.scale * self.scale, later.scale * self.shift + later.shift)


def of_batch_norm(gamma: Tensor | None, beta: Tensor | None, mean: Tensor, var: Tensor, eps: float) -> Affine:
    """``scale = gamma / sqrt(var + eps)``, ``shift = beta - mean * scale``; absent gamma and beta are 1 and 0."""
    scale = torch.rsqrt(var.double() + eps)
    if gamma is not None:
        scale = scale * gamma.double()
    shift = -mean.double() * scale
    return Affine(scale, shift if beta is None else shift + beta.double())


def along(values: Tensor, axis: int, rank: int) -> Tensor:
    """``[channels]`` shaped to broadcast along ``axis`` of a tensor of that rank."""
    shape = [1] * rank
    shape[axis] = -1
    return values.reshape(shape)


def output_scaled(weight: Tensor, affine: Affine, groups: int = 1, transposed: bool = False) -> Tensor:
    """``diag(scale) W`` on the output axis: dim 0, or dim 1 within each group of a transposed convolution's weight."""
    weight = weight.double()
    if not transposed:
        return weight * along(affine.scale, 0, weight.dim())
    grouped = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    scale = affine.scale.reshape(groups, 1, -1, *[1] * (weight.dim() - 2))
    return (grouped * scale).reshape(weight.shape)


def output_bias(bias: Tensor | None, affine: Affine) -> Tensor:
    """``scale * b + shift``."""
    return affine.shift if bias is None else affine.scale * bias.double() + affine.shift


def input_scaled(weight: Tensor, affine: Affine, groups: int = 1, transposed: bool = False) -> Tensor:
    """``W diag(scale)`` on the input axis: dim 1 of each group of ``[out, in / groups, ...]``, transposed dim 0."""
    if transposed:
        return weight.double() * along(affine.scale, 0, weight.dim())
    return weight.double() * _per_input(weight, affine.scale, groups)


def input_bias(weight: Tensor, affine: Affine, groups: int = 1) -> Tensor:
    """``W shift`` summed over inputs and taps: ``[out]``; what an unpadded operator adds for a constant input."""
    weighted = weight.double() * _per_input(weight, affine.shift, groups)
    return weighted.flatten(1).sum(1)


def _per_input(weight: Tensor, values: Tensor, groups: int) -> Tensor:
    """``[channels]`` as a factor of a weight ``[out, in / groups, ...]``: each output group sees its own inputs."""
    grouped = values.reshape(groups, 1, -1).expand(groups, weight.shape[0] // groups, -1)
    return grouped.reshape(weight.shape[0], weight.shape[1], *[1] * (weight.dim() - 2))


def channel_axis(node: Node) -> int | None:
    """The axis of a linear operator's input and output that its weight mixes; None if it works without a batch axis."""
    rank, weight_rank = len(node.meta["val"].shape), len(bind(node)["weight"].meta["val"].shape)
    if is_call(node, "aten.linear"):
        return rank - 1 if weight_rank == 2 else None
    return 1 if rank == weight_rank else None


def is_padded(conv: Value) -> bool:
    """Whether a convolution reads zeros beyond its input."""
    padding = conv["padding"]
    return padding != "valid" if isinstance(padding, str) else any(amount != 0 for amount in padding)
