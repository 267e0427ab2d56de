"""Batch norm with no linear neighbour to take it in."""

from __future__ import annotations

from torch import Tensor

from hycompile.builder import Value, call
from hycompile.passes.affine import along
from hycompile.passes.fold_batch_norm.pattern import BATCH_NORM, affine_of
from hycompile.rewrite import rule


@rule(BATCH_NORM, source="definition of batch norm at inference (Ioffe and Szegedy 2015, algorithm 2)")
def batch_norm_to_depthwise(
    norm: Value,
    x: Value,
    gamma: Tensor | None,
    beta: Tensor | None,
    mean: Tensor | None,
    var: Tensor | None,
    eps: float,
) -> Value:
    """BN(x) = s x + t:  a depthwise 1x1 convolution with weight s [C, 1, 1, 1] and bias t [C].

    Given: a BN that neither its producer nor its consumers take in, such as the identity branch of MobileOne.
    Result: a depthwise convolution, which parallel branches can later be merged with; for ``[N, C]`` inputs, and beyond
    three spatial axes, a multiplication and an addition.
    """
    affine = affine_of(norm, gamma, beta, mean, var, eps)
    rank, channels = len(x.shape), affine.scale.numel()
    if rank not in (3, 4, 5):
        scaled = call("aten.mul.Tensor", x, along(affine.scale, 1, rank))
        return call("aten.add.Tensor", scaled, along(affine.shift, 1, rank))
    spatial = rank - 2
    weight = affine.scale.reshape(channels, 1, *[1] * spatial)
    return call(f"aten.conv{spatial}d", x, weight, affine.shift, [1] * spatial, [0] * spatial, [1] * spatial, channels)
