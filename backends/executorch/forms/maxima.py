"""Largest values along an axis, as the pairwise maximum XNNPACK's partitioner has an entry for."""

from __future__ import annotations

from functools import reduce

from hycompile.backends.executorch.forms.sizes import inferred, require_fixed
from hycompile.builder import Value, call
from hycompile.pattern import Any, Arg, Call
from hycompile.rewrite import require, rule

# Hiera pools its queries four to one; long axes would become long chains.
_LONGEST = 16


@rule(
    Call("aten.amax", name="largest", self=Any("x"), dim=Arg("dims"), keepdim=Arg("keepdim")),
    source="definition of the maximum",
)
def expand_amax(largest: Value, x: Value, dims: list[int], keepdim: bool) -> Value:
    """amax(x, axis) = max(x[0:1], max(x[1:2], ...)), slices taken along the axis.

    Given: the largest values along one short axis of fixed size.
    Result: pairwise maxima of its slices.

    Refused over several axes, for a dynamic size and for long axes.
    """
    require(len(dims) == 1, "it looks along axes {}", dims)
    axis = dims[0] % len(x.shape)
    size = x.shape[axis]
    require_fixed([size])
    require(size <= _LONGEST, "its axis has {} values, more than {}", size, _LONGEST)
    slices = [call("aten.slice.Tensor", x, axis, index, index + 1) for index in range(size)]
    result = reduce(lambda left, right: call("aten.maximum", left, right), slices)
    return result if keepdim else call("aten.reshape", result, inferred(largest.shape))
