"""A constant factor or term before linear operators."""

from __future__ import annotations

from hycompile.builder import Value
from hycompile.passes.absorb.consumers import find_consumers
from hycompile.passes.absorb.paths import Axis
from hycompile.passes.affine import Affine
from hycompile.passes.fold_scale.pattern import ConstantMap, require_finite
from hycompile.rewrite import require, rule


@rule(ConstantMap(), source="linearity; R10', R16 and R19 of the rule catalogue")
def fold_scale_into_consumers(map: Value, x: Value, affine: Affine, axis: Axis) -> Value:
    """W (s x + t) + b = W' x + b':  W' = W diag(s) [in],  b' = b + W t [out].

    Given: a constant factor or term all of whose uses end in convolutions or linears, through operators it may pass:
    moves, pools, means, selections along other axes, and for a factor also products (a gated memory unit) and ReLU.
    Result: the factor or term is gone, every such operator has folded weight and bias.

    Refused when a use is not linear, and for a term before a padded convolution: it would only move behind it.
    """
    require_finite(affine)
    consumers = find_consumers(map.node, axis, affine, "the scale")
    for consumer in consumers:
        moved = consumer.shifted_border(affine)
        require(not moved, "{} is padded: the constant would come back as a map behind it", consumer.node.name)
    for consumer in consumers:
        consumer.take(affine)
    return x
