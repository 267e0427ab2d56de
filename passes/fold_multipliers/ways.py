"""How a value comes to be scaled: by a change of constants, or by scaling what it is computed from.

Every operator here is linear and homogeneous in the inputs named: scaled inputs give a scaled output.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import Node
from torch.utils import _pytree as pytree

from hycompile.passes.absorb.operator import LINEAR
from hycompile.passes.absorb.paths import passes_up
from hycompile.passes.absorb.readers import readers_of
from hycompile.passes.fold_multipliers.absorbers import (
    Change,
    ScaledBias,
    ScaledLinear,
    ScaledTable,
    linear_of,
    scaled_multiplier,
    scaled_norm,
)
from hycompile.passes.fold_multipliers.factor import Factor
from hycompile.passes.fold_multipliers.pieces import piece_of
from hycompile.program import constant
from hycompile.rewrite import Refused, require
from hycompile.schema import bind, is_call, operator_name

_SUMS = ("aten.add.Tensor", "aten.sub.Tensor")
_ATTENTION = "aten.scaled_dot_product_attention"
_PRODUCTS = ("aten.matmul", "aten.bmm", "aten.mm", "aten.einsum")
# Of one number a factor passes what selects, repeats or adds up elements, and what puts zeros between them.
_NUMBER_PASSES = (
    "aten.neg",
    "aten.sum.dim_IntList",
    "aten.cumsum",
    "aten.repeat",
    "aten.repeat_interleave.self_int",
    "aten.index_select",
    "aten.gather",
    "aten.tril",
    "aten.triu",
)


@dataclass(frozen=True)
class Way:
    """``node`` comes out scaled once each ``(reader, input, factor)`` is, and the change is made.

    The reader is who needs the input scaled: ``node`` itself, or a head that shares the table being scaled.
    """

    needs: tuple[tuple[Node, Node, Factor], ...] = ()
    change: Change | None = None


def ways(node: Node, factor: Factor) -> list[Way]:
    """Every way to scale ``node``, the one that changes least first.

    Raises:
        Refused: there is none; the reason says why.
    """
    if is_call(node, *LINEAR):
        return [_linear(node, factor)]
    if is_call(node, "aten.embedding"):
        return [_embedding(node, factor)]
    change = scaled_norm(node, factor) or scaled_multiplier(node, factor)
    if change is not None:
        return [Way(change=change)]
    found = list(_passed_on(node, factor))
    name = operator_name(node) if node.op == "call_function" else node.op
    require(found, "{} is neither linear nor passes a multiplier on", name)
    return found


def may_pass(node: Node) -> bool:
    """Whether a factor may pass ``node`` at all. Where it may not, a scaled input would be seen as such."""
    number = Factor(None, torch.ones(1, dtype=torch.float64))
    return is_call(node, *_SUMS, _ATTENTION, "aten.cat") or any(
        _passes(node, source, number) for source in node.all_input_nodes
    )


def _linear(node: Node, factor: Factor) -> Way:
    operator, a = linear_of(node, factor), bind(node)
    if not _tied(node, a["weight"]):
        return Way(change=ScaledLinear(operator, factor))
    require(factor.axis is None, "{} shares its weight with an embedding, which has other channels", node.name)
    return Way(((node, a["input"], factor),), ScaledBias(operator, factor))


def _embedding(node: Node, factor: Factor) -> Way:
    a, module = bind(node), node.graph.owning_module
    table, last = constant(module, a["weight"]), len(node.meta["val"].shape) - 1  # type: ignore[arg-type]
    require(table is not None, "the table of {} is not a constant", node.name)
    require(factor.axis in (None, last), "the multiplier of {} lies on axis {}", node.name, factor.axis)
    heads = [reader for reader in readers_of(module, a["weight"]) if reader is not node]  # type: ignore[arg-type]
    for head in heads:
        linear = is_call(head, "aten.linear")
        require(linear, "{} shares its table with {}, which is no linear", node.name, head.name)
    inputs = [(head, bind(head)["input"]) for head in heads]
    undone = [(head, given, factor.inverse().at(len(given.meta["val"].shape) - 1)) for head, given in inputs]
    if heads:
        require(bool((factor.scale != 0).all()), "{} shares its table, and zero cannot be undone", node.name)
    return Way(tuple(undone), ScaledTable(node, table, factor, tuple(heads)))  # type: ignore[arg-type]


def _tied(linear: Node, weight: Node) -> bool:
    readers = readers_of(linear.graph.owning_module, weight)  # type: ignore[arg-type]
    return any(is_call(reader, "aten.embedding") for reader in readers)


def _passed_on(node: Node, factor: Factor) -> Iterator[Way]:
    a: dict[str, Any] = bind(node)
    if is_call(node, *_SUMS):
        yield from _all_of(node, [a["self"], a["other"]], factor)
    elif is_call(node, "aten.cat"):
        yield from _cat(node, a, factor)
    elif is_call(node, _ATTENTION):
        if factor.axis in (None, len(node.meta["val"].shape) - 1):
            yield Way(((node, a["value"], factor),))
    elif (piece := piece_of(node)) is not None:
        if factor.axis != piece.axis:
            yield Way(((piece.node, piece.source, factor),))
        if factor.axis in (None, piece.axis):
            whole = factor.around(piece.axis, piece.start, piece.end, piece.size)
            yield Way(((piece.node, piece.source, whole),))
    else:
        for source in node.all_input_nodes:
            before = _passes(node, source, factor)
            if before is not None:
                yield Way(((node, source, before),))


def _all_of(node: Node, operands: list[Any], factor: Factor) -> Iterator[Way]:
    if not all(isinstance(operand, Node) for operand in operands):
        return
    rank = len(node.meta["val"].shape)
    needs: list[tuple[Node, Node, Factor]] = []
    for operand in operands:
        shape = operand.meta["val"].shape
        axis = None if factor.axis is None else factor.axis - rank + len(shape)
        if axis is not None and (axis < 0 or shape[axis] != len(factor.scale)):
            return
        needs.append((node, operand, factor.at(axis)))
    yield Way(tuple(needs))


def _cat(node: Node, a: dict[str, Any], factor: Factor) -> Iterator[Way]:
    dim, start = a["dim"] % len(node.meta["val"].shape), 0
    needs: list[tuple[Node, Node, Factor]] = []
    for tensor in a["tensors"]:
        size = tensor.meta["val"].shape[dim]
        needs.append((node, tensor, factor.piece(start, start + size) if factor.axis == dim else factor))
        start = start + size
    yield Way(tuple(needs))


def _passes(node: Node, source: Node, factor: Factor) -> Factor | None:
    """The factor of ``source`` that makes ``node`` scaled, if it is homogeneous in that input alone."""
    if factor.axis is None and is_call(node, *_NUMBER_PASSES):
        return factor if bind(node)["self"] is source else None
    if factor.axis is None and is_call(node, *_PRODUCTS):
        operands = pytree.tree_leaves((node.args, node.kwargs))
        return factor if operands.count(source) == 1 else None
    try:
        passes, axis = passes_up(node, source, factor.axis, factor.affine)
    except Refused:
        return None
    return factor.at(axis) if passes else None
