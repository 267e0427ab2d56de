"""Values repeated only to be combined with larger ones."""

from __future__ import annotations

from torch import Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true

from hycompile.builder import Value, call
from hycompile.pattern import Any, Call, Const
from hycompile.rewrite import require, rule

_ELEMENTWISE = ("aten.mul.Tensor", "aten.add.Tensor", "aten.sub.Tensor", "aten.div.Tensor")
_EXPANDED = Call("aten.expand", self=Any("small"))


def _without_expand(result: Value, x: Value, small: Value, *, first: bool) -> Value:
    rank = len(result.shape)
    same = len(x.shape) == rank and all(
        statically_known_true(a == b) for a, b in zip(x.shape, result.shape, strict=True)
    )
    require(same, "the other operand is {}, the result {}", list(x.shape), list(result.shape))
    operands = (small, x) if first else (x, small)
    return call(result.node.target, *operands, *result.node.args[2:], **result.node.kwargs)  # type: ignore[arg-type]


@rule(
    Call(_ELEMENTWISE, name="result", self=Any("x"), other=_EXPANDED),
    source="broadcasting of element-wise operators",
)
def broadcast_right(result: Value, x: Value, small: Value) -> Value:
    """x * expand(y) = x * y  where x has the shape of the result.

    Given: a sum, difference, product or quotient with an expanded value: the norms of queries and keys, the context of
    MobileViTv2's separable attention.
    Result: the same without the copy.

    Refused where the result takes its shape from the expanded value.
    """
    return _without_expand(result, x, small, first=False)


@rule(
    Call(_ELEMENTWISE, name="result", self=_EXPANDED, other=Any("x")),
    source="broadcasting of element-wise operators",
)
def broadcast_left(result: Value, x: Value, small: Value) -> Value:
    """expand(y) * x = y * x  where x has the shape of the result.

    Given, Result, Refused: as broadcast_right, with the operands changed over.
    """
    return _without_expand(result, x, small, first=True)


@rule(
    Call(
        "aten.mul.Tensor",
        self=Call("aten.div.Tensor", self=Any("x"), other=Any("norm"), once=True),
        other=Const("temperature"),
        commutative=True,
    ),
    source="(x / n) t = x / (n / t); cross-covariance attention of Ali et al. 2021 (XCiT), section 3.2",
)
def fold_temperature(x: Value, norm: Value, temperature: Tensor) -> Value:
    """(x / n) t = x / (n (1 / t)).

    Given: normalised queries times a temperature for each head: one norm a channel, one temperature a head.
    Result: the temperature multiplies the norms, instead of every pixel of every channel.

    Refused where a temperature is zero, where the norm is as large as what it divides, and where the temperature would
    make it larger.
    """
    require(bool((temperature != 0).all()), "a temperature is zero")
    require(norm.shape[-1] == 1 and x.shape[-1] != 1, "the norm {} is as large as what it divides", list(norm.shape))
    fits = temperature.dim() <= len(norm.shape) and all(
        size in (1, have) for size, have in zip(reversed(temperature.shape), reversed(norm.shape), strict=False)
    )
    require(fits, "the temperature {} would make the norm {} larger", list(temperature.shape), list(norm.shape))
    return call("aten.div.Tensor", x, call("aten.mul.Tensor", norm, temperature.double().reciprocal()))
