"""Reshapes that folding leaves next to each other."""

from __future__ import annotations

from torch.fx.experimental.symbolic_shapes import statically_known_true

from hycompile.builder import Value, call
from hycompile.pattern import Any, Call
from hycompile.rewrite import rule


@rule(
    Call("aten.reshape", name="outer", self=Call("aten.reshape", self=Any("x"))),
    source="definition of reshape: elements stay in row-major order",
)
def merge_reshapes(outer: Value, x: Value) -> Value:
    """reshape(reshape(x, a), b) = reshape(x, b);  x itself where b is its shape.

    Given: a reshape of a reshape, such as LeViT's around a batch norm that is gone.
    Result: one or none. Of dynamic sizes, ``torch.export`` cannot always prove that the pair is a view.
    """
    same = len(outer.shape) == len(x.shape)
    if same and all(statically_known_true(a == b) for a, b in zip(outer.shape, x.shape, strict=True)):
        return x
    return call("aten.reshape", x, outer["shape"])
