"""Batch norm before convolutions and linears, also behind average pooling, as in Next-ViT's attention."""

from __future__ import annotations

from torch import Tensor

from hycompile.builder import Value
from hycompile.passes.absorb.consumers import find_consumers
from hycompile.passes.fold_batch_norm.pattern import BATCH_NORM, affine_of
from hycompile.rewrite import rule


@rule(BATCH_NORM, source="Next-ViT's merge_bn (Li et al. 2022), generalised; R2 and R3 of the rule catalogue")
def fold_batch_norm_into_consumers(
    norm: Value,
    x: Value,
    gamma: Tensor | None,
    beta: Tensor | None,
    mean: Tensor | None,
    var: Tensor | None,
    eps: float,
) -> Value:
    """W BN(x) + b = W' x + b':  W' = W diag(s) [in],  b' = b + W t [out],  s = g / sqrt(var + eps),  t = beta - mean s.

    Given: a BN all of whose uses end, through moves that keep the channel axis and through average pooling whose
    weights sum to 1, in convolutions or linears with constant weights.
    Result: the BN is gone, every such operator has folded weight and bias. A padded convolution sees zeros beyond the
    border where it saw t before, so its bias becomes a map ``conv(t) + b`` [1, out, H, W] of the static output shape.

    Refused when a use is not linear, when pooling counts zero padding, and for a padded convolution of dynamic size.
    """
    affine = affine_of(norm, gamma, beta, mean, var, eps)
    for consumer in find_consumers(norm.node, 1, affine, "the batch norm"):
        consumer.take(affine)
    return x
