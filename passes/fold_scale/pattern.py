"""The pattern of the rules here: an operator that is a map ``scale * x + shift`` with constants along one axis."""

from __future__ import annotations

from typing import Any as Anything

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from hycompile.builder import Value
from hycompile.errors import PassError
from hycompile.passes.affine import Affine
from hycompile.pattern import Call, Captures
from hycompile.program import constant, source_line
from hycompile.rewrite import require
from hycompile.schema import bind, is_call

_SCALES = ("aten.mul.Tensor", "aten.mul.Scalar", "aten.div.Tensor", "aten.div.Scalar", "aten.neg")
_SHIFTS = ("aten.add.Tensor", "aten.add.Scalar", "aten.sub.Tensor", "aten.sub.Scalar", "aten.rsub.Scalar")


class ConstantMap(Call):
    """An addition, subtraction, multiplication or division of a value with a constant, or a negation.

    Captures the operator ``map``, its input ``x``, the map ``affine`` and its ``axis`` (None if it is the same
    everywhere). Constants that vary along several axes do not match: a position table belongs to no channel.
    """

    def __init__(self, *operators: str) -> None:
        super().__init__(operators or (*_SCALES, *_SHIFTS))

    def match(self, module: GraphModule, value: object, captures: Captures) -> Captures | None:
        found = super().match(module, value, captures)
        node: Anything = value
        if found is None or not node.meta["val"].is_floating_point():
            return None
        read = _operands(module, node)
        if read is None:
            return None
        x, given = read
        if given.is_meta:
            raise no_values(node)
        same = x.meta["val"].dtype == node.meta["val"].dtype and x.meta["val"].shape == node.meta["val"].shape
        placed = _along_one_axis(given, len(node.meta["val"].shape))
        if placed is None or not same:
            return None
        values, axis = placed
        affine = _affine(node, x, values)
        return found | {"map": Value(node), "x": Value(x), "affine": affine, "axis": axis}

    def names(self) -> set[str]:
        return {"map", "x", "affine", "axis"}


def _operands(module: GraphModule, node: Node) -> tuple[Node, Tensor] | None:
    """The value and the constant that ``node`` combines; a negation multiplies by -1."""
    a = bind(node)
    if is_call(node, "aten.neg"):
        return a["self"], -torch.ones((), dtype=torch.float64)
    if a.get("rounding_mode") is not None:
        return None
    first, second = _number(module, a["self"]), _number(module, a["other"])
    if (first is None) == (second is None) or (second is None and is_call(node, "aten.div.Tensor")):
        return None
    return (a["self"], second) if second is not None else (a["other"], first)  # type: ignore[return-value]


def _number(module: GraphModule, value: object) -> Tensor | None:
    if isinstance(value, (int, float)):
        return torch.tensor(value, dtype=torch.float64)
    tensor = constant(module, value)
    return None if tensor is None or tensor.is_complex() else tensor.double()


def _along_one_axis(given: Tensor, rank: int) -> tuple[Tensor, int | None] | None:
    """The values ``[channels]`` and their axis in a result of that rank; one value and None if all are equal."""
    if given.numel() == 0 or given.dim() > rank:
        return None
    flat = given.reshape(-1)
    if bool((flat == flat[0]).all()):
        return flat[:1], None
    wide = [axis for axis, size in enumerate(given.shape) if size != 1]
    return (flat, wide[0] + rank - given.dim()) if len(wide) == 1 else None


def _affine(node: Node, x: Node, values: Tensor) -> Affine:
    one, none = torch.ones_like(values), torch.zeros_like(values)
    if is_call(node, "aten.mul.Tensor", "aten.mul.Scalar", "aten.neg"):
        return Affine(values, none)
    if is_call(node, "aten.div.Tensor", "aten.div.Scalar"):
        return Affine(1 / values, none)
    a = bind(node)
    factor = float(a["alpha"])
    if is_call(node, "aten.add.Tensor", "aten.add.Scalar"):
        return Affine(one, factor * values) if a["self"] is x else Affine(factor * one, values)
    if is_call(node, "aten.rsub.Scalar"):
        return Affine(-factor * one, values)
    return Affine(one, -factor * values) if a["self"] is x else Affine(-factor * one, values)


def no_values(node: Node) -> PassError:
    """A constant factor of a model on the meta device, where there are no values to fold it by or into."""
    return PassError(
        f"multiplier {node.name} ({source_line(node)})",
        "the model is on the meta device: there are no values that a factor could be folded by or into",
        "load the model with its weights, or leave the pass out",
    )


def require_finite(affine: Affine) -> None:
    """A masked channel or a division by zero stays where it is: in a weight, infinity times zero is no number."""
    finite = bool(affine.scale.isfinite().all() and affine.shift.isfinite().all())
    require(finite, "its constant has values that are not finite")
