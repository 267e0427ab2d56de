"""A linear that reads nothing but another linear."""

from __future__ import annotations

from torch import Tensor

from hycompile.builder import Value, call
from hycompile.pattern import Any, Call, Const
from hycompile.rewrite import require, rule

_FIRST = Call("aten.linear", once=True, input=Any("x"), weight=Const("w1"), bias=Const("b1", optional=True))


@rule(
    Call("aten.linear", input=_FIRST, weight=Const("w2"), bias=Const("b2", optional=True)),
    source="associativity; R22 of the rule catalogue",
)
def merge_linears_in_series(x: Value, w1: Tensor, b1: Tensor | None, w2: Tensor, b2: Tensor | None) -> Value:
    """W2 (W1 x + b1) + b2 = W' x + b':  W' = W2 W1 [out, in],  b' = b2 + W2 b1 [out].

    Given: two linears with nothing between, the first read by the second only.
    Result: one linear.

    Refused where it would cost more: a factorised layer of inner width r has r (in + out) weights, the merged in out.
    """
    require(w1.dim() == 2 and w2.dim() == 2, "the weights are {} and {}", list(w1.shape), list(w2.shape))
    (inner, inputs), outputs = w1.shape, w2.shape[0]
    cost, merged = inner * (inputs + outputs), inputs * outputs
    require(merged <= cost, "merged it has {} weights, apart {}", merged, cost)
    return call("aten.linear", x, product(w2, w1), product_bias(w2, b1, b2))


def product(later: Tensor, earlier: Tensor) -> Tensor:
    """The weight ``W2 W1`` of two linears in a row, in float64."""
    return later.double() @ earlier.double()


def product_bias(later: Tensor, b1: Tensor | None, b2: Tensor | None) -> Tensor | None:
    """The bias ``b2 + W2 b1`` of two linears in a row, in float64; None if neither has one."""
    return bias_sum(None if b1 is None else later.double() @ b1.double(), b2)


def bias_sum(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    """The sum of two biases that may be absent, in float64."""
    given = [bias.double() for bias in (first, second) if bias is not None]
    return sum(given[1:], given[0]) if given else None
