"""Layer scale, and any other constant factor or term, after a linear operator."""

from __future__ import annotations

from hycompile.builder import Value
from hycompile.passes.absorb.paths import Axis
from hycompile.passes.absorb.producer import find_producer
from hycompile.passes.affine import Affine
from hycompile.passes.fold_scale.pattern import ConstantMap, require_finite
from hycompile.rewrite import rule


@rule(ConstantMap(), source="linearity; R10 of the rule catalogue; layer scale is of Touvron et al. 2021 (CaiT)")
def fold_scale_into_producer(x: Value, affine: Affine, axis: Axis) -> Value:
    """s (W x + b) + t = W' x + b':  W' = diag(s) W [out],  b' = s b + t [out].

    Given: a convolution, transposed convolution or linear; then operators the map may pass: moves that keep the channel
    axis whole, a product with another value (scale only), a ReLU (positive scale only); then a multiplication or
    division by a constant, a negation, or the addition or subtraction of a constant, per channel or one for all.
    Result: the same operators without the last one.

    Refused when the producer is not linear, when it or an operator between has another user, and when its weight is no
    constant. A sum is never passed: the scale after a residual addition scales both branches.
    """
    require_finite(affine)
    return find_producer(x.node, axis, affine, "the scale").fold(affine)
