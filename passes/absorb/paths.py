"""Which operators an affine map may pass: applied before one or after it, the result is the same."""

from __future__ import annotations

import operator

from torch.fx import Node

from hycompile.passes.affine import Affine
from hycompile.passes.channels import MOVES, axis_after, axis_before
from hycompile.rewrite import require
from hycompile.schema import bind, is_call, operator_name

Axis = int | None
"""The axis the map's channels lie on; None for a map that is the same everywhere."""

_SELECTIONS = ("aten.select.int", "aten.slice.Tensor", "aten.flip", "aten.roll", "aten.expand")
_SPLITS = ("aten.split.Tensor", "aten.split_with_sizes")
_POOLS = ("aten.avg_pool1d", "aten.avg_pool2d", "aten.avg_pool3d")


def passes_down(user: Node, source: Node, axis: Axis, affine: Affine) -> tuple[bool, Axis]:
    """Whether a map of ``source`` is the same map of ``user``, and the axis it then lies on."""
    if user.op != "call_function":
        return False, None
    if is_call(user, *_POOLS):
        _require_average(user, affine)
        return _pooled(user, axis)
    if is_call(user, "aten.mean.dim"):
        return _mean(user, axis)
    if is_call(user, "aten.mul.Tensor", "aten.div.Tensor"):
        return _product(user, source, axis, affine)
    if is_call(user, "aten.relu"):
        return not affine.shifts and bool((affine.scale > 0).all()), axis
    if is_call(user, *_SELECTIONS):
        return _selected(user, axis)
    if axis is None:
        return is_call(user, *MOVES, *_SPLITS) or user.target is operator.getitem, None
    after = axis_after(user, axis)
    return after is not None, after


def passes_up(node: Node, source: Node, axis: Axis, affine: Affine) -> tuple[bool, Axis]:
    """Whether a map of ``node`` is the same map of its input ``source``, and the axis it then lies on."""
    if axis is None:
        return passes_down(node, source, None, affine)
    if is_call(node, "aten.mul.Tensor", "aten.div.Tensor"):
        before = axis - len(node.meta["val"].shape) + len(source.meta["val"].shape)
        return _product(node, source, before, affine)[0], before
    if is_call(node, "aten.relu"):
        return passes_down(node, source, axis, affine)
    before = axis_before(node, axis)
    return before is not None, before


def _require_average(pool: Node, affine: Affine) -> None:
    """A pool keeps a shift only if the weights of each of its windows sum to 1."""
    a = bind(pool)
    if not affine.shifts:
        return
    padded = any(amount != 0 for amount in a["padding"])
    require(
        not padded or not a["count_include_pad"], "{} averages over zero padding (padding {})", pool.name, a["padding"]
    )
    divisor = a.get("divisor_override")
    require(divisor is None, "{} divides by {}, not by its window", pool.name, divisor)


def _pooled(pool: Node, axis: Axis) -> tuple[bool, Axis]:
    batched = len(pool.meta["val"].shape) == _POOLS.index(operator_name(pool)) + 3
    return axis is None or (axis == 1 and batched), axis


def _mean(node: Node, axis: Axis) -> tuple[bool, Axis]:
    if axis is None:
        return True, None
    a, rank = bind(node), len(node.args[0].meta["val"].shape)  # type: ignore[union-attr]
    dims = sorted(dim % rank for dim in a["dim"] or range(rank))
    if axis in dims:
        return False, None
    return True, axis if a["keepdim"] else axis - sum(dim < axis for dim in dims)


def _product(node: Node, source: Node, axis: Axis, affine: Affine) -> tuple[bool, Axis]:
    """``(s x) y = s (x y)``: one factor takes the scale, and only if it is the numerator and not both factors."""
    factors = [bind(node)["self"], bind(node)["other"]]
    factor = factors[0] is source if is_call(node, "aten.div.Tensor") else factors.count(source) == 1
    if affine.shifts or not factor or factors.count(source) != 1:
        return False, None
    if axis is None:
        return True, None
    shape, result = source.meta["val"].shape, node.meta["val"].shape
    after = axis + len(result) - len(shape)
    return axis >= 0 and after >= 0 and result[after] == shape[axis], after


def _selected(node: Node, axis: Axis) -> tuple[bool, Axis]:
    """What picks, repeats or reorders elements along other axes than the channels'."""
    if axis is None:
        return True, None
    a, rank = bind(node), len(node.args[0].meta["val"].shape)  # type: ignore[union-attr]
    if is_call(node, "aten.expand"):
        after = axis + len(node.meta["val"].shape) - rank
        return node.meta["val"].shape[after] == node.args[0].meta["val"].shape[axis], after  # type: ignore[union-attr]
    dims = a["dims"] if "dims" in a else [a["dim"]]
    touched = {dim % rank for dim in dims} if dims else set(range(rank))
    if axis in touched:
        return False, None
    dropped = is_call(node, "aten.select.int") and a["dim"] % rank < axis
    return True, axis - 1 if dropped else axis
