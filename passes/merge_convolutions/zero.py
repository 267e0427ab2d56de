"""Additions of nothing, which stand between branches and hide them from each other."""

from __future__ import annotations

from hycompile.builder import Value
from hycompile.pattern import Any, Call
from hycompile.rewrite import require, rule


@rule(Call(("aten.add.Tensor", "aten.sub.Tensor"), name="total", self=Any("x"), other=0), source="definition of zero")
def drop_added_zero(total: Value, x: Value) -> Value:
    """x + 0 = x.

    Given: the number 0 added or subtracted, such as the branch that MobileOne's strided blocks do not have.
    Result: the addition is gone.

    Refused when adding the number also changed the type.
    """
    require(x.dtype == total.dtype, "{} makes {} of {}", total.node.name, total.dtype, x.dtype)
    return x
