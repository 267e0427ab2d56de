"""Linears of the same input that are added up: two heads, or a layer and its low-rank adapter."""

from __future__ import annotations

from torch import Tensor

from hycompile.builder import Value, call
from hycompile.passes.merge_linears.in_series import bias_sum, product, product_bias
from hycompile.pattern import Any, Call, Const
from hycompile.rewrite import require, rule


def _linear(number: int, source: Any | Call) -> Call:
    weight, bias = Const(f"w{number}"), Const(f"b{number}", optional=True)
    return Call("aten.linear", once=True, input=source, weight=weight, bias=bias)


@rule(
    Call("aten.add.Tensor", self=_linear(1, Any("x")), other=_linear(2, Any("x")), alpha=1),
    source="linearity; distilled heads are of Touvron et al. 2021 (DeiT)",
)
def merge_sum_of_linears(x: Value, w1: Tensor, b1: Tensor | None, w2: Tensor, b2: Tensor | None) -> Value:
    """(W1 x + b1) + (W2 x + b2) = W' x + b':  W' = W1 + W2,  b' = b1 + b2.

    Given: two linears of one input, each read by their sum only, such as the averaged heads of a distilled model.
    Result: one linear of the same size.

    Refused if their weights differ in shape.
    """
    require(w1.shape == w2.shape, "the weights are {} and {}", list(w1.shape), list(w2.shape))
    return call("aten.linear", x, w1.double() + w2.double(), bias_sum(b1, b2))


@rule(
    Call(
        "aten.add.Tensor",
        commutative=True,
        self=_linear(1, Any("x")),
        other=_linear(3, _linear(2, Any("x"))),
        alpha=1,
    ),
    source="Hu et al. 2021 (LoRA), section 4.1; R24 of the rule catalogue",
)
def merge_low_rank_update(
    x: Value,
    w1: Tensor,
    b1: Tensor | None,
    w2: Tensor,
    b2: Tensor | None,
    w3: Tensor,
    b3: Tensor | None,
) -> Value:
    """(W x + b) + B (A x + a) + c = W' x + b':  W' = W + B A,  b' = b + B a + c.

    Given: a linear and an adapter of two linears on the same input; a scale of the adapter has gone into B before.
    Result: the linear alone, of the same size.

    Refused if the adapter's product is not of the linear's shape.
    """
    adapter = (w3.shape[0], w2.shape[-1])
    require(tuple(w1.shape) == adapter, "the linear is {}, the adapter {}", list(w1.shape), list(adapter))
    return call("aten.linear", x, w1.double() + product(w3, w2), bias_sum(b1, product_bias(w3, b2, b3)))
