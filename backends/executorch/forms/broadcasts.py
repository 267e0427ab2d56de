"""Copies that only repeat values: the elementwise operator after them repeats by itself."""

from __future__ import annotations

from hycompile.builder import Value, call
from hycompile.pattern import Any, Call
from hycompile.rewrite import require, rule

_ELEMENTWISE = ("aten.add.Tensor", "aten.sub.Tensor", "aten.mul.Tensor", "aten.div.Tensor")


@rule(
    Call(_ELEMENTWISE, name="operation", self=Any("a"), other=Call("aten.expand", name="repeated", self=Any("b"))),
    source="definition of broadcasting",
)
def broadcast_operand(operation: Value, a: Value, b: Value, repeated: Value) -> Value:
    """a + expand(b) = a + b, and so for every elementwise operator; MobileViTv2 expands its context vectors.

    Refused where the repeated sizes come from the expansion alone.
    """
    require(a.shape == operation.shape, "its shape {} comes from the expansion", list(operation.shape))
    return call(operation.node.target, a, b)  # type: ignore[arg-type]
