"""A matrix product with a constant is a linear, and all rules for linears then hold."""

from __future__ import annotations

from torch import Tensor

from hycompile.builder import Value, call
from hycompile.pattern import Any, Call, Const
from hycompile.rewrite import require, rule


@rule(Call("aten.matmul", self=Any("x"), other=Const("matrix")), source="definition of linear")
def constant_matmul_to_linear(x: Value, matrix: Tensor) -> Value:
    """x M = linear(x, W):  W = M' [out, in].

    Given: a product with a constant matrix [in, out], such as SwiftFormer's weights of its global query.
    Result: a linear without bias.

    Refused for a constant that is no matrix: a batch of matrices multiplies each element of the batch by its own.
    """
    require(matrix.dim() == 2, "the constant is {}, not a matrix", list(matrix.shape))
    return call("aten.linear", x, matrix.t())
