"""Choices between values and zeros, as products."""

from __future__ import annotations

import torch

from hycompile.builder import Value, call
from hycompile.pattern import Any, Call
from hycompile.rewrite import require, rule


@rule(
    Call(
        "aten.where.self",
        name="chosen",
        condition=Any("condition"),
        self=Any("x"),
        other=Call("aten.zeros_like", self=Any("model")),
    ),
    source="x * 1 = x and x * 0 = 0 for finite x",
)
def multiply_by_choice(chosen: Value, condition: Value, x: Value, model: Value) -> Value:
    """where(c, x, 0) = x c, with c as ones and zeros.

    Given: finite values of which whole rows stay or become zero (the slots of a cache that a prompt fills).
    Result: a product in the delegate. The portable ``where`` works out the place in the smaller condition for every
    element, which takes longer than the attention that reads the cache.

    Refused where the condition has as many elements as the result, for then the portable kernel is quick; where x has
    fewer; and for whole numbers.
    """
    require(x.shape == chosen.shape, "its values are {} and its result {}", list(x.shape), list(chosen.shape))
    require(x.dtype.is_floating_point and x.dtype == chosen.node.meta["val"].dtype, "its values are {}", x.dtype)
    smaller = condition.node.meta["val"].numel() < x.node.meta["val"].numel()
    require(smaller, "its condition has the shape {} of the result", list(condition.shape))
    require(condition.dtype == torch.bool, "its condition is {}", condition.dtype)
    return call("aten.mul.Tensor", x, call("aten._to_copy", condition, dtype=x.dtype))
