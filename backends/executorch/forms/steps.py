"""Every n-th value of a tensor: XNNPACK slices without steps only."""

from __future__ import annotations

from hycompile.backends.executorch.forms.sizes import require_fixed
from hycompile.builder import Value, call
from hycompile.pattern import Any, Arg, Call
from hycompile.rewrite import require, rule

# As many dimensions as an XNNPACK tensor has, less the one this adds.
_RANK = 5


@rule(
    Call("aten.slice.Tensor", name="taken", self=Any("x"), dim=Arg("dim"), start=Arg("start"), step=Arg("step")),
    source="indexing: i = n q + r numbers an axis by groups of n and places in them",
)
def slice_in_groups(taken: Value, x: Value, dim: int, start: int | None, step: int) -> Value:
    """x[a::n] = reshape(pad(x[a:]), [q, n])[:, 0].

    Given: every n-th value along an axis of fixed size (LeViT's queries where the image shrinks).
    Result: the axis as groups of n, padded to whole ones, and the first of each.

    Refused with a step of one, for dynamic sizes, and where a dimension more would be too many.
    """
    require(step > 1, "its step is {}", step)
    require(len(x.shape) <= _RANK, "it has {} dimensions, and one more has no tensor", len(x.shape))
    require_fixed(x.shape)
    axis = dim % len(x.shape)
    size, groups = x.shape[axis], taken.shape[axis]
    first = _first(start, size)
    last = min(size, first + groups * step)
    part = x if (first, last) == (0, size) else call("aten.slice.Tensor", x, axis, first, last)
    missing = groups * step - (last - first)
    if missing:
        behind = len(x.shape) - 1 - axis
        part = call("aten.constant_pad_nd", part, [0, 0] * behind + [0, missing])
    before, after = list(x.shape[:axis]), list(x.shape[axis + 1 :])
    grouped = call("aten.reshape", part, [*before, groups, step, *after])
    return call("aten.reshape", call("aten.slice.Tensor", grouped, axis + 1, 0, 1), [*before, groups, *after])


def _first(start: int | None, size: int) -> int:
    if start is None:
        return 0
    return max(start + size, 0) if start < 0 else min(start, size)
