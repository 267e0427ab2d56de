"""A multiplier into the weights that make the value it multiplies."""

from __future__ import annotations

from hycompile.builder import Value
from hycompile.passes.absorb.paths import Axis
from hycompile.passes.affine import Affine
from hycompile.passes.fold_multipliers.absorbers import MULTIPLIER
from hycompile.passes.fold_multipliers.factor import Factor
from hycompile.passes.fold_multipliers.plan import find_plan
from hycompile.passes.fold_scale.pattern import require_finite
from hycompile.rewrite import rule


@rule(MULTIPLIER, source="homogeneity; P-1 and R10 of the rule catalogue; muP is of Yang et al. 2022")
def fold_multiplier_into_producers(map: Value, x: Value, affine: Affine, axis: Axis) -> Value:
    """s f(W1 x + b1, E2[i], ..) = f(s W1 x + s b1, (s E2)[i], ..) for f linear and homogeneous in these together.

    Given: a multiplication or division by a constant, one number or one a channel, and before it operators a factor may
    pass: moves, selections, sums of values that can all be scaled, products in one factor, concatenations and pieces
    (each with its own part of the factor), rotary embeddings, attention in its values; they begin at linears,
    convolutions, embeddings, or weights of norms, and end nowhere but in the multiplier.
    Result: those weights are scaled, the multiplier is gone. An embedding that shares its table with a head scales it
    for both, and the norm before the head takes the inverse; a multiplier behind such a head goes into that norm.

    Refused when what comes before is not linear (nothing passes a norm's epsilon), when a value on the way has another
    user, when a shared table cannot be kept shared, and for constants that are not finite.
    """
    require_finite(affine)
    plan = find_plan(map.node, x.node, Factor(axis, affine.scale))
    plan.make()
    return x
