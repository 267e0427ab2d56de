"""SiLU as the two operators that runtimes have on whole numbers."""

from __future__ import annotations

from hycompile.builder import Value, call
from hycompile.pattern import Any, Call
from hycompile.rewrite import rule


@rule(Call("aten.silu", self=Any("x")), source="definition of SiLU (Elfwing et al. 2017)")
def split_silu(x: Value) -> Value:
    """silu(x) = x sigmoid(x).

    Given: a SiLU of floats.
    Result: a sigmoid, which is a table of 256 numbers, and a product. No runtime has SiLU as one table.
    """
    return call("aten.mul.Tensor", x, call("aten.sigmoid", x))
