"""Row i of an operator's result depends only on these rows of its inputs: the proof of every step a selection sinks."""

from __future__ import annotations

from typing import Any

import torch
from torch._ops import OpOverload
from torch.fx import Node

from hycompile.passes.sink_slices.arguments import Axes
from hycompile.passes.sink_slices.views import VIEWS, Kept, broadcast_axes, sizes
from hycompile.rewrite import Refused, require
from hycompile.schema import bind, operator_name

# Parts of operators' names, and what such operators are.
_MIXERS = {
    "conv": "a convolution",
    "pool": "a pooling",
    "recurrence": "a recurrence",
    "scan": "a recurrence",
    "cache": "a cache",
}


def needed_rows(node: Node, axis: int) -> Axes:
    """The arguments of ``node`` of which only the same rows are needed, by schema name, each with its axis of rows.

    Arguments left out are needed whole.

    Args:
        node: any node but a selection along ``axis``.
        axis: the axis of its result whose rows are selected, counted from the start.

    Raises:
        Refused: its rows depend on other rows, or nothing is known about it.
    """
    require(node.op == "call_function", "{} is given whole", node.name)
    name = operator_name(node)
    rule = _RULES.get(name, broadcast_axes if _is_elementwise(node) else None)
    if rule is None:
        kind = next((kind for part, kind in _MIXERS.items() if part in name), None)
        reason = f"{name} is {kind}: a row depends on other rows" if kind else f"nothing is known of the rows of {name}"
        raise Refused(reason)
    return rule(node, bind(node), axis)


def _is_elementwise(node: Node) -> bool:
    return isinstance(node.target, OpOverload) and torch.Tag.pointwise in node.target.tags


def _linear(node: Node, a: dict[str, Any], axis: int) -> Axes:
    require(axis < len(sizes(node)) - 1, "a linear computes each of its outputs from all inputs")
    return {"input": axis}


def _norm(node: Node, a: dict[str, Any], axis: int) -> Axes:
    require(axis < len(sizes(node)) - len(a["normalized_shape"]), "axis {} is normalised over", axis)
    return {"input": axis}


def _along_dim(node: Node, a: dict[str, Any], axis: int) -> Axes:
    """Softmax and its like, splits, slices and selections: rows stay apart unless ``dim`` is their axis."""
    require(axis != a["dim"] % len(sizes(node)), "{} runs along axis {}", operator_name(node), axis)
    return {"self": axis}


def _without_dim(node: Node, a: dict[str, Any], axis: int) -> Axes:
    """The result lacks the axis that was selected or unbound."""
    return {"self": axis + (axis >= a["dim"] % len(sizes(a["self"])))}


def _reduction(node: Node, a: dict[str, Any], axis: int) -> Axes:
    rank = len(sizes(a["self"]))
    given: Any = a["dim"]
    reduced = {dim % rank for dim in ([given] if isinstance(given, int) else given or range(rank))}
    kept = [dim for dim in range(rank) if a["keepdim"] or dim not in reduced]
    require(kept[axis] not in reduced, "{} runs along axis {}", operator_name(node), kept[axis])
    return {"self": kept[axis]}


def _cat(node: Node, a: dict[str, Any], axis: int) -> Axes:
    require(axis != a["dim"] % len(sizes(node)), "the rows of axis {} are concatenated", axis)
    return {"tensors": axis}


def _stack(node: Node, a: dict[str, Any], axis: int) -> Axes:
    dim = a["dim"] % len(sizes(node))
    require(axis != dim, "the rows of axis {} are concatenated", axis)
    return {"tensors": axis - (axis > dim)}


def _matmul(node: Node, a: dict[str, Any], axis: int) -> Axes:
    """Rows of the left operand make rows, columns of the right one columns; other axes broadcast."""
    left, right = ("self", "mat2") if "mat2" in a else ("self", "other")
    rank, ranks = len(sizes(node)), (len(sizes(a[left])), len(sizes(a[right])))
    require(min(ranks) >= 2, "a product with a vector")
    if axis == rank - 2:
        return {left: ranks[0] - 2}
    if axis == rank - 1:
        return {right: ranks[1] - 1}
    return broadcast_axes(node, {left: a[left], right: a[right]}, axis)


def _addmm(node: Node, a: dict[str, Any], axis: int) -> Axes:
    return {("mat1", "mat2")[axis]: axis} | broadcast_axes(node, {"self": a["self"]}, axis)


def _einsum(node: Node, a: dict[str, Any], axis: int) -> Axes:
    """Every operand that has the letter of the rows has it once."""
    equation: str = a["equation"].replace(" ", "")
    terms, _, result = equation.partition("->")
    require(result and "." not in terms, "einsum {} does not name its axes", equation)
    letter = result[axis]
    require(all(term.count(letter) <= 1 for term in terms.split(",")), "einsum {} takes a diagonal", equation)
    return {"tensors": [term.index(letter) if letter in term else None for term in terms.split(",")]}


def _attention(node: Node, a: dict[str, Any], axis: int) -> Axes:
    """A query row meets every key: rows of the query and of the mask, keys and values whole."""
    rank = len(sizes(node))
    require(axis != rank - 1, "attention weighs whole values")
    operands = {name: a[name] for name in ("query", "key", "value", "attn_mask")}
    if axis < rank - 2:
        require(not a["enable_gqa"], "query heads share keys")
        return broadcast_axes(node, operands, axis)
    known = all(isinstance(size, int) for size in (sizes(a["query"])[-2], sizes(a["key"])[-2]))
    require(
        known or not a["is_causal"], "causal attention over a dynamic number of tokens has no mask whose rows to take"
    )
    return broadcast_axes(node, {"query": a["query"], "attn_mask": a["attn_mask"]}, axis)


def _embedding(node: Node, a: dict[str, Any], axis: int) -> Axes:
    require(axis < len(sizes(node)) - 1, "an embedding is looked up whole")
    return {"indices": axis}


def _type_as(node: Node, a: dict[str, Any], axis: int) -> Axes:
    """Of the other tensor only the dtype counts; rows of it do if it has them."""
    same = list(sizes(a["other"])) == list(sizes(node))
    return {"self": axis, "other": axis} if same else {"self": axis}


def _getitem(node: Node, a: dict[str, Any], axis: int) -> Axes:
    return {"0": axis}


_RULES: dict[str, Kept] = {
    **VIEWS,
    "aten.linear": _linear,
    **{f"aten.{name}": _norm for name in ("layer_norm", "rms_norm")},
    **{f"aten.{name}": broadcast_axes for name in ("_to_copy", "clone", "zeros_like", "ones_like", "full_like")},
    **{f"aten.{name}": _along_dim for name in ("softmax.int", "log_softmax.int", "_softmax", "_log_softmax", "glu")},
    **{f"aten.{name}": _along_dim for name in ("cumsum", "slice.Tensor", "index_select")},
    **{f"aten.{name}": _along_dim for name in ("split.Tensor", "split_with_sizes", "chunk")},
    **{f"aten.{name}": _without_dim for name in ("select.int", "unbind.int")},
    **{
        f"aten.{name}": _reduction
        for name in ("mean.dim", "sum.dim_IntList", "amax", "amin", "var.dim", "var.correction")
    },
    **{f"aten.{name}": _reduction for name in ("linalg_vector_norm", "any.dim", "all.dim", "argmax", "logsumexp")},
    "aten.cat": _cat,
    "aten.stack": _stack,
    **{f"aten.{name}": _matmul for name in ("matmul", "mm", "bmm")},
    "aten.addmm": _addmm,
    "aten.einsum": _einsum,
    "aten.scaled_dot_product_attention": _attention,
    "aten.embedding": _embedding,
    "aten.type_as": _type_as,
    "getitem": _getitem,
}
