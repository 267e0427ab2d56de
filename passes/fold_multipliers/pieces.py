"""Slices and splits as what they are: pieces ``start .. end - 1`` of an axis of a tensor."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

from torch.fx import Node

from hycompile.schema import bind, is_call

SPLITS = ("aten.split.Tensor", "aten.split_with_sizes")


@dataclass(frozen=True)
class Piece:
    """``node`` is ``source`` from ``start`` to ``end`` of ``axis``, which has ``size`` elements."""

    node: Node
    source: Node
    axis: int
    start: int
    end: int
    size: int


def piece_of(node: Node) -> Piece | None:
    """The slice that ``node`` is: of step one, and of sizes known beforehand; None for anything else."""
    if is_call(node, "aten.slice.Tensor"):
        return _slice(node)
    if node.target is operator.getitem and is_call(node.args[0], *SPLITS):
        return _split(node)
    return None


def pieces_read(user: Node) -> list[Piece]:
    """The pieces of its input that a slice or a split gives to others; none if it is neither."""
    nodes = list(user.users) if is_call(user, *SPLITS) else [user]
    found = [piece_of(node) for node in nodes]
    return [piece for piece in found if piece is not None] if all(found) else []


def _slice(node: Node) -> Piece | None:
    a = bind(node)
    shape = a["self"].meta["val"].shape
    axis = a["dim"] % len(shape)
    known = all(isinstance(size, int) or size is None for size in (shape[axis], a["start"], a["end"]))
    if a["step"] != 1 or not known:
        return None
    start, end, _ = slice(a["start"], a["end"]).indices(shape[axis])
    return Piece(node, a["self"], axis, start, end, shape[axis])


def _split(node: Node) -> Piece | None:
    split: Any = node.args[0]
    index: Any = node.args[1]
    a = bind(split)
    shape = a["self"].meta["val"].shape
    axis = a["dim"] % len(shape)
    sizes = [part.shape[axis] for part in split.meta["val"]]
    if not all(isinstance(size, int) for size in sizes):
        return None
    start = sum(sizes[:index])
    return Piece(node, a["self"], axis, start, start + sizes[index], shape[axis])
