"""Batch norm after a convolution, transposed convolution or linear."""

from __future__ import annotations

from torch import Tensor

from hycompile.builder import Value
from hycompile.passes.absorb.producer import find_producer
from hycompile.passes.fold_batch_norm.pattern import BATCH_NORM, affine_of
from hycompile.rewrite import rule


@rule(BATCH_NORM, source="Jacob et al. 2018, section 3.2; R1 of the rule catalogue")
def fold_batch_norm_into_producer(
    norm: Value,
    x: Value,
    gamma: Tensor | None,
    beta: Tensor | None,
    mean: Tensor | None,
    var: Tensor | None,
    eps: float,
) -> Value:
    """BN(W x + b) = W' x + b':  W' = diag(s) W [out],  b' = s b + t [out],  s = g / sqrt(var + eps), t = beta - mean s.

    Given: a convolution of any groups, stride and padding, a transposed convolution or a linear; then operators that
    only move data and keep the channel axis whole (LeViT flattens its tokens between linear and batch norm); then BN.
    Result: the same operator with folded weight and bias, and the same moves.

    Refused when the producer is not linear, when it or a move between has another user (who would see scaled values),
    when its weight is not a constant, or when the batch norm takes the statistics of its batch.
    """
    affine = affine_of(norm, gamma, beta, mean, var, eps)
    return find_producer(x.node, 1, affine, "the batch norm").fold(affine)
