"""Where a factor can end: a weight that is changed so that a value comes out scaled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor
from torch.fx import Node

from hycompile.builder import Value, edit
from hycompile.passes.absorb.operator import LinearOperator, linear_operator
from hycompile.passes.affine import along
from hycompile.passes.fold_multipliers.factor import Factor
from hycompile.passes.fold_scale.pattern import ConstantMap
from hycompile.program import constant
from hycompile.rewrite import require
from hycompile.schema import bind, is_call

MULTIPLICATIONS = ("aten.mul.Tensor", "aten.mul.Scalar", "aten.div.Tensor", "aten.div.Scalar")
MULTIPLIER = ConstantMap(*MULTIPLICATIONS)
NORMS = ("aten.rms_norm", "aten.layer_norm")


class Change(Protocol):
    """A change of constants, made once every precondition holds."""

    def make(self) -> None: ...


@dataclass(frozen=True)
class ScaledLinear:
    """``s (W x + b) = diag(s) W x + s b``."""

    operator: LinearOperator
    factor: Factor

    def make(self) -> None:
        self.operator.scale_output(self.factor.affine)


@dataclass(frozen=True)
class ScaledBias:
    """``s (W x + b) = W (s x) + s b`` for one number s: what is left to do when the input is scaled."""

    operator: LinearOperator
    factor: Factor

    def make(self) -> None:
        if self.operator.bias is not None:
            edit(Value(self.operator.node), bias=self.operator.bias.double() * self.factor.scale)


@dataclass(frozen=True)
class ScaledTable:
    """``s E[i] = (E diag(s))[i]``; ``heads`` that share the table read the new one, too."""

    embedding: Node
    table: Tensor
    factor: Factor
    heads: tuple[Node, ...] = ()

    def make(self) -> None:
        edit(Value(self.embedding), weight=self.table.double() * self.factor.scale)
        shared = Value(bind(self.embedding)["weight"])
        for head in self.heads:
            edit(Value(head), weight=shared)


@dataclass(frozen=True)
class ScaledConstants:
    """Constant arguments of a norm or a multiplication, times the factor."""

    node: Node
    arguments: dict[str, Tensor | float]

    def make(self) -> None:
        edit(Value(self.node), **self.arguments)


def linear_of(node: Node, factor: Factor) -> LinearOperator:
    """The linear operator at ``node``, if the factor lies on its channels."""
    return linear_operator(node, factor.axis, "the multiplier", "the channels of {} lie on")


def scaled_norm(node: Node, factor: Factor) -> ScaledConstants | None:
    """Weight and bias of a norm over its last axis, times the factor; None if ``node`` is none that has them."""
    if not is_call(node, *NORMS):
        return None
    a, module = bind(node), node.graph.owning_module
    last = len(node.meta["val"].shape) - 1
    if len(a["normalized_shape"]) != 1 or factor.axis not in (None, last):
        return None
    given = {name: a[name] for name in ("weight", "bias") if a.get(name) is not None}
    tensors = {name: constant(module, value) for name, value in given.items()}  # type: ignore[arg-type]
    require("weight" in given, "{} has no weight to take the multiplier", node.name)
    for name, tensor in tensors.items():
        require(tensor is not None, "the {} of {} is not a constant", name, node.name)
    scaled: Any = {name: tensor.double() * factor.scale for name, tensor in tensors.items()}  # type: ignore[union-attr]
    return ScaledConstants(node, scaled)


def scaled_multiplier(node: Node, factor: Factor) -> ScaledConstants | None:
    """The constant of another multiplier, times the factor; None if ``node`` is none, or lies on another axis."""
    found = MULTIPLIER.match(node.graph.owning_module, node, {})  # type: ignore[arg-type]
    if found is None:
        return None
    axis, rank = found["axis"], len(node.meta["val"].shape)
    scalar = is_call(node, "aten.mul.Scalar", "aten.div.Scalar")
    if factor.axis is not None and (scalar or axis not in (None, factor.axis)):
        return None
    a = bind(node)
    name = "self" if a["self"] is not found["x"].node else "other"
    own = found["affine"].scale
    total = own * factor.scale
    if is_call(node, "aten.div.Tensor", "aten.div.Scalar"):
        total = 1 / total
    if not isinstance(a[name], Node) and factor.axis is None:
        return ScaledConstants(node, {name: total.item()})
    axis = axis if axis is not None else factor.axis
    return ScaledConstants(node, {name: total.reshape(()) if axis is None else along(total, axis, rank)})
