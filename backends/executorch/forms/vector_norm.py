"""Vector norms in operators XNNPACK's delegate takes."""

from __future__ import annotations

import torch

from hycompile.backends.executorch.forms.sizes import require_fixed
from hycompile.builder import Value, call
from hycompile.pattern import Any, Arg, Call
from hycompile.rewrite import require, rule


@rule(
    Call(
        "aten.linalg_vector_norm",
        name="norm",
        self=Any("x"),
        ord=Arg("order"),
        dim=Arg("dims"),
        keepdim=True,
        dtype=None,
    ),
    source="definition of the Euclidean norm; a sum over the last axis is a linear map with weights 1",
)
def expand_vector_norm(norm: Value, x: Value, order: float, dims: list[int] | None) -> Value:
    """norm(x, axis) = sqrt(sum(x^2)) = sqrt(linear((x x)^T, 1)^T).

    Given: a Euclidean norm over one axis of fixed size that is kept (EdgeNeXt and SwiftFormer normalise with it).
    Result: a product, a linear with one output, and a square root; the axis is brought last and back.

    Refused for other orders, over several axes, for a dynamic size, and in float16, whose range the squares leave.
    """
    rank = len(x.shape)
    require(order == 2, "its order is {}", order)
    require(dims is not None and len(dims) == 1, "it is taken over axes {}", dims)
    axis = dims[0] % rank  # type: ignore[index]
    size = x.shape[axis]
    require_fixed([size])
    require(x.dtype != torch.float16, "in float16 the squares may leave the range")
    squares = call("aten.mul.Tensor", x, x)
    last = squares if axis == rank - 1 else call("aten.transpose.int", squares, axis, -1)
    root = call("aten.sqrt", call("aten.linear", last, torch.ones(1, size, dtype=torch.float64)))
    return root if axis == rank - 1 else call("aten.transpose.int", root, axis, -1)
