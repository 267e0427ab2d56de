"""What a softmax is taken of: queries times keys, with scales and biases in whatever order the author wrote them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from hycompile.builder import Value, call
from hycompile.program import constant
from hycompile.rewrite import require
from hycompile.schema import bind, is_call, operator_name

PRODUCTS = ("aten.matmul", "aten.bmm")
_SCALES = ("aten.mul.Tensor", "aten.mul.Scalar", "aten.div.Tensor", "aten.div.Scalar")
_SUMS = ("aten.add.Tensor", "aten.add.Scalar", "aten.sub.Tensor", "aten.sub.Scalar")


@dataclass(frozen=True)
class Logits:
    """``scale * left @ right + bias``.

    Args:
        left: ``[..., rows, E]``.
        right: ``[..., E, columns]``.
        factor: constant that broadcasts over rows and columns, ``[..., 1, 1]``: a temperature for each head.
        bias: constant or run-time value that broadcasts against ``[..., rows, columns]``.
    """

    left: Value
    right: Value
    scale: float = 1.0
    factor: Tensor | None = None
    bias: Tensor | Value | None = None


def product_operands(product: Node) -> tuple[Node, Node]:
    """Both operands of a ``matmul`` or ``bmm``."""
    first, second = product.args[:2]
    return first, second  # type: ignore[return-value]


def logits_of(module: GraphModule, node: Node) -> Logits:
    """Read ``node`` as attention logits; refuses what is none."""
    found = _read(module, node)
    require(found is not None, "its softmax is of {}, which is no scaled and biased product of its own", _name(node))
    assert found is not None
    left, left_scale = _unscaled(module, found.left)
    right, right_scale = _unscaled(module, found.right)
    return replace(found, left=left, right=right, scale=found.scale * left_scale * right_scale)


def _read(module: GraphModule, node: Node) -> Logits | None:
    if len(node.users) != 1:
        return None
    if is_call(node, *PRODUCTS):
        left, right = product_operands(node)
        return Logits(Value(left), Value(right))
    if is_call(node, *_SCALES):
        return _read_scaled(module, node)
    return _read_sum(module, node) if is_call(node, *_SUMS) else None


def _read_scaled(module: GraphModule, node: Node) -> Logits | None:
    first, second = node.args[:2]
    divides = is_call(node, "aten.div.Tensor", "aten.div.Scalar")
    for inner, other in ((first, second), (second, first))[: 1 if divides else 2]:
        found = _read(module, inner) if isinstance(inner, Node) else None
        factor = _factor(module, other)
        if found is not None and factor is not None:
            return _times(found, factor.reciprocal() if divides else factor)
    return None


def _read_sum(module: GraphModule, node: Node) -> Logits | None:
    a = bind(node)
    first, second = node.args[:2]
    minus = is_call(node, "aten.sub.Tensor", "aten.sub.Scalar")
    for inner, other in ((first, second), (second, first))[: 1 if minus else 2]:
        found = _read(module, inner) if isinstance(inner, Node) else None
        if found is not None and a["alpha"] == 1:
            term = _term(module, other)
            return replace(found, bias=_plus(found.bias, _scaled(term, torch.tensor(-1.0)) if minus else term))
    return None


def _times(found: Logits, factor: Tensor) -> Logits:
    bias = None if found.bias is None else _scaled(found.bias, factor)
    if factor.numel() == 1:
        return replace(found, scale=found.scale * float(factor), bias=bias)
    return replace(found, factor=factor if found.factor is None else found.factor * factor, bias=bias)


def _factor(module: GraphModule, value: object) -> Tensor | None:
    """A number, or a constant that is the same along rows and columns, in float64."""
    if isinstance(value, (int, float)):
        return torch.tensor(float(value), dtype=torch.float64)
    tensor = constant(module, value)
    if tensor is None or not tensor.is_floating_point():
        return None
    if tensor.numel() == 1:
        return tensor.double().reshape(())
    return tensor.double() if tuple(tensor.shape[-2:]) == (1, 1) else None


def _term(module: GraphModule, value: Any) -> Tensor | Value:
    if not isinstance(value, Node):
        return torch.tensor(float(value), dtype=torch.float64)
    tensor = constant(module, value)
    return Value(value) if tensor is None else tensor.double()


def _plus(first: Tensor | Value | None, second: Tensor | Value) -> Tensor | Value:
    if first is None:
        return second
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return first + second
    return call("aten.add.Tensor", first, second)


def _scaled(term: Tensor | Value, factor: Tensor) -> Tensor | Value:
    if isinstance(term, Tensor):
        return term * factor
    return call("aten.mul.Tensor", term, float(factor) if factor.numel() == 1 else factor)


def _unscaled(module: GraphModule, operand: Value) -> tuple[Value, float]:
    """An operand without the number it is multiplied by, also below a transpose of its last two axes."""
    node = operand.node
    if is_call(node, *_SCALES):
        divides = is_call(node, "aten.div.Tensor", "aten.div.Scalar")
        inner, factor = node.args[0], _factor(module, node.args[1])
        if isinstance(inner, Node) and factor is not None and factor.numel() == 1:
            value, scale = _unscaled(module, Value(inner))
            return value, scale / float(factor) if divides else scale * float(factor)
    if is_call(node, "aten.transpose.int", "aten.permute"):
        value, scale = _unscaled(module, Value(node.args[0]))  # type: ignore[arg-type]
        if scale != 1.0:
            return call(node.target, value, *node.args[1:]), scale  # type: ignore[arg-type]
    return operand, 1.0


def _name(node: Node) -> str:
    return operator_name(node) if node.op == "call_function" else node.op
