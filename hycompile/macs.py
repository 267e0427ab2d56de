"""Multiply-accumulates of a graph's products, from shapes alone: weights on the meta device are enough."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch.fx import GraphModule, Node

from hycompile.schema import bind, operator_name

KINDS: tuple[str, ...] = ("linear", "matmul", "convolution", "attention")


def macs(module: GraphModule) -> dict[str, int]:
    """Multiply-accumulates by kind of operator, each of ``KINDS``; dynamic sizes count as in the example inputs.

    ``linear`` has ``addmm`` too, ``matmul`` every other matrix product and einsums of two tensors, ``attention`` both
    products of ``scaled_dot_product_attention``, with what a causal mask hides. Recurrences are not counted.
    """
    found = dict.fromkeys(KINDS, 0)
    for node in module.graph.nodes:
        product = product_of(node)
        if product is not None:
            kind, count = product
            found[kind] += count
    return found


def product_of(node: Node) -> tuple[str, int] | None:
    """The kind and the multiply-accumulates of a product; None for any other node."""
    if node.op != "call_function" or operator_name(node) not in _COUNTS:
        return None
    kind, count = _COUNTS[operator_name(node)]
    return kind, count(node, bind(node))


def _sizes(node: Any) -> list[int]:
    return [size if isinstance(size, int) else int(size.node.hint) for size in node.meta["val"].shape]


def _linear(node: Node, a: dict[str, Any]) -> int:
    return math.prod(_sizes(node)) * _sizes(a["input"])[-1]


def _added_product(node: Node, a: dict[str, Any]) -> int:
    return math.prod(_sizes(node)) * _sizes(a["mat1"])[-1]


def _product(node: Node, a: dict[str, Any]) -> int:
    return math.prod(_sizes(node)) * _sizes(a["self"])[-1]


def _einsum(node: Node, a: dict[str, Any]) -> int:
    """Letters of both operands; none is counted where the equation says less, or more, than two operands do."""
    operands = a["equation"].replace(" ", "").partition("->")[0].split(",")
    if len(operands) != 2 or "." in a["equation"]:
        return 0
    letters: dict[str, int] = {}
    for operand, tensor in zip(operands, a["tensors"], strict=True):
        for letter, size in zip(operand, _sizes(tensor), strict=True):
            letters[letter] = max(size, letters.get(letter, 1))
    return math.prod(letters.values())


def _convolution(node: Node, a: dict[str, Any]) -> int:
    """Every weight meets every position of the output, or of the input where the convolution is transposed."""
    transposed = bool(a.get("transposed")) or "transpose" in operator_name(node)
    batch, _, *positions = _sizes(a["input"] if transposed else node)
    return math.prod(_sizes(a["weight"])) * batch * math.prod(positions)


def _causal_conv(node: Node, a: dict[str, Any]) -> int:
    batch, tokens, _ = _sizes(a["x"])
    return math.prod(_sizes(a["weight"])) * batch * tokens


def _attention(node: Node, a: dict[str, Any]) -> int:
    *rows, value_width = _sizes(node)
    *_, keys, key_width = _sizes(a["key"])
    return math.prod(rows) * keys * (key_width + value_width)


_CONVOLUTIONS: Sequence[str] = (
    *("conv1d", "conv2d", "conv3d", "conv1d.padding", "conv2d.padding", "conv3d.padding", "convolution"),
    *("conv_transpose1d", "conv_transpose2d.input", "conv_transpose3d.input"),
)
_COUNTS: dict[str, tuple[str, Callable[[Node, dict[str, Any]], int]]] = {
    "aten.linear": ("linear", _linear),
    "aten.addmm": ("linear", _added_product),
    **{f"aten.{name}": ("matmul", _product) for name in ("matmul", "mm", "bmm", "mv", "dot")},
    "aten.baddbmm": ("matmul", lambda node, a: math.prod(_sizes(node)) * _sizes(a["batch1"])[-1]),
    "aten.einsum": ("matmul", _einsum),
    **{f"aten.{name}": ("convolution", _convolution) for name in _CONVOLUTIONS},
    "hycompile.causal_conv": ("convolution", _causal_conv),
    "aten.scaled_dot_product_attention": ("attention", _attention),
}
