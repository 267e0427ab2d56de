"""Attention without a softmax: products in the order that costs least."""

from __future__ import annotations

import math
from typing import Any as Anything

from hycompile.builder import Value, call
from hycompile.passes.fuse_conv_attention.layout import static
from hycompile.pattern import Any, Arg, Call
from hycompile.rewrite import require, rule

_PADDED = Call("aten.pad", self=Any("values"), pad=[0, 1], mode="constant", value=1.0)
_PRODUCT = Call(
    "aten.matmul", name="product", self=Any("queries"), other=Call("aten.matmul", self=Any("keys"), other=_PADDED)
)
_LAST = 9223372036854775807


@rule(
    Call(
        "aten.div.Tensor",
        self=Call("aten.slice.Tensor", self=_PRODUCT, dim=Arg("axis"), start=0, end=-1, step=1),
        other=Call(
            "aten.add.Tensor",
            self=Call("aten.slice.Tensor", self=_PRODUCT, dim=Arg("axis"), start=-1, end=_LAST, step=1),
            other=Arg("eps"),
            alpha=1,
        ),
    ),
    source="Cai et al. 2023 (EfficientViT), equation 3; a column of ones makes a product a sum",
)
def unpad_linear_attention(queries: Value, keys: Value, values: Value, product: Value, axis: int, eps: float) -> Value:
    """Q (K^T [V, 1]) = [Q (K^T V), Q (K^T 1)];  K^T 1 sums K^T over its tokens.

    Given: ReLU linear attention that appends a column of ones to the values to get numerator and denominator at once.
    Result: a product for the numerator, a sum and a product with a single column for the denominator; no padding, and
    no slices of an odd width.

    Refused where the parts are not cut from the last axis.
    """
    rank = len(product.shape)
    require(axis % rank == rank - 1, "the parts are cut from axis {} of {}", axis, rank)
    numerator = call("aten.matmul", queries, call("aten.matmul", keys, values))
    denominator = call("aten.matmul", queries, call("aten.sum.dim_IntList", keys, [-1], True))
    return call("aten.div.Tensor", numerator, call("aten.add.Tensor", denominator, eps))


@rule(
    Call("aten.matmul", self=Call("aten.matmul", self=Any("a"), other=Any("b"), once=True), other=Any("c")),
    source="products are associative; Katharopoulos et al. 2020, equation 6",
)
def multiply_right_first(a: Value, b: Value, c: Value) -> Value:
    """(A B) C = A (B C)  where that takes fewer multiplications.

    Given: attention without a softmax, such as (Q K^T) V of many tokens and few channels.
    Result: the same products in the other order.

    Refused where the order as written costs no more, and where a size is dynamic.
    """
    as_written = _cost(a, b) + _cost_of(a.shape[:-1], b.shape[-1], c.shape[-1])
    other = _cost(b, c) + _cost_of(a.shape[:-1], a.shape[-1], c.shape[-1])
    require(other < as_written, "as written it takes {} multiplications, the other way {}", as_written, other)
    return call("aten.matmul", a, call("aten.matmul", b, c))


def _cost(left: Value, right: Value) -> int:
    return _cost_of(left.shape[:-1], left.shape[-1], right.shape[-1])


def _cost_of(rows: Anything, inner: Anything, columns: Anything) -> int:
    sizes = [*rows, inner, columns]
    require(static(sizes), "the sizes {} are dynamic", sizes)
    return math.prod(sizes)
