"""Moves in a graph: which nodes are one, and building one from a value."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.fx import Node

from hycompile.builder import Value
from hycompile.passes.layout.move import Move, identity, permuting, reshaping
from hycompile.schema import bind, is_call

RESHAPES = (
    "aten.reshape",
    "aten.unsqueeze",
    "aten.squeeze",
    "aten.squeeze.dim",
    "aten.squeeze.dims",
    "aten.flatten.using_ints",
    "aten.unflatten.int",
)
PERMUTES = ("aten.permute", "aten.transpose.int")
MOVES = RESHAPES + PERMUTES
_TAKEN_IN = "taken_in"


def static_shape(node: Node) -> tuple[int, ...] | None:
    """The shape of a tensor whose sizes are all known and positive; None for anything else."""
    value: Any = node.meta.get("val")
    sizes: list[Any] = list(value.shape) if isinstance(value, Tensor) else [None]
    return tuple(sizes) if all(isinstance(size, int) and size > 0 for size in sizes) else None


def give_away(permute: Value) -> Value:
    """Mark a permute as one that an operator next to it takes in: on the target it is none."""
    permute.node.meta[_TAKEN_IN] = True
    return permute


def is_taken_in(node: Node) -> bool:
    """Whether :func:`give_away` was told so."""
    return _TAKEN_IN in node.meta


def move_of(node: Node) -> Move | None:
    """What a node moves, if it is a reshape or permute of known sizes that is not taken in."""
    if not is_call(node, *MOVES) or is_taken_in(node):
        return None
    bound = bind(node)
    source: Node = bound["self"]
    before, after = static_shape(source), static_shape(node)
    if before is None or after is None:
        return None
    if is_call(node, *RESHAPES):
        return reshaping(before, after)
    order = list(range(len(before)))
    if is_call(node, "aten.permute"):
        order = bound["dims"]
    elif before:
        first, second = bound["dim0"], bound["dim1"]
        order[first], order[second] = order[second], order[first]
    return permuting(before, order)


def ancestors(node: Node) -> list[tuple[Node, Move]]:
    """Values ``node`` is a mere rearrangement of, nearest first, each with the whole move from it to ``node``."""
    found: list[tuple[Node, Move]] = []
    shape = static_shape(node)
    if shape is None:
        return found
    whole = identity(shape)
    while (own := move_of(node)) is not None:
        joined = own.then(whole)
        if joined is None:
            break
        node, whole = node.args[0], joined  # type: ignore[assignment]
        found.append((node, whole))
    return found


def root(node: Node) -> tuple[Node, Move | None]:
    """The farthest value that ``node`` is one move of, and that move; None if sizes are not known."""
    chain = ancestors(node)
    if chain:
        return chain[-1]
    shape = static_shape(node)
    return node, identity(shape) if shape is not None else None
