"""How the axes of a value come from the axes of another, through operators that only move data.

A value's axes are made of *pieces* of the source's axes: ``reshape`` splits and joins them, ``permute`` reorders them.
Known pieces tell which channel of a linear operator stands where behind any chain of reshapes, permutes and transposes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node
from torch.fx.experimental.symbolic_shapes import statically_known_true

from hycompile.builder import Value, call
from hycompile.schema import bind, is_call

_PERMUTES = ("aten.permute", "aten.transpose.int")
MOVES = (*_PERMUTES, "aten.reshape", "aten.unsqueeze", "aten.squeeze.dim", "aten.squeeze.dims")


@dataclass(frozen=True)
class Piece:
    """Part of one axis of the source.

    ``path`` sorts the pieces of the source in its own order: its axis, then 0 or 1 for the outer or inner part of each
    split.
    """

    path: tuple[int, ...]
    # A dynamic size has no hash, and the path alone tells pieces apart.
    size: Any = field(compare=False)

    @property
    def axis(self) -> int:
        return self.path[0]


Axis = tuple[Piece, ...]


@dataclass(frozen=True)
class Layout:
    """The pieces that make up each axis of a value, outermost first; axes of size one have none."""

    axes: tuple[Axis, ...]

    @classmethod
    def of(cls, shape: Sequence[Any]) -> Layout:
        """The source itself."""
        return cls(tuple(() if size == 1 else (Piece((axis,), size),) for axis, size in enumerate(shape)))

    def through(self, move: Node) -> Layout | None:
        """Behind one of :data:`MOVES`; None where a reshape cuts across pieces."""
        shape, rank = tuple(move.meta["val"].shape), len(self.axes)
        if not is_call(move, *_PERMUTES):
            return self.regrouped(shape) if is_call(move, *MOVES) else None
        return Layout(tuple(self.axes[axis] for axis in order_of(move, rank)))

    def regrouped(self, shape: Sequence[Any]) -> Layout | None:
        """The pieces in the same order, grouped into axes of these sizes."""
        pending = [piece for axis in self.axes for piece in axis]
        axes: list[Axis] = []
        for size in shape:
            taken: list[Piece] = []
            while not statically_known_true(math.prod(piece.size for piece in taken) == size):
                if not pending:
                    return None
                piece = pending.pop(0)
                left = _missing(size, taken)
                if left is not None and static([piece.size]) and piece.size > left:
                    if piece.size % left:
                        return None
                    outer, inner = Piece((*piece.path, 0), left), Piece((*piece.path, 1), piece.size // left)
                    pending.insert(0, inner)
                    piece = outer
                taken.append(piece)
            axes.append(tuple(taken))
        return None if pending else Layout(tuple(axes))

    def axes_of(self, source_axis: int) -> set[int]:
        """Which axes hold pieces of an axis of the source."""
        return {index for index, axis in enumerate(self.axes) if any(piece.axis == source_axis for piece in axis)}

    def pieces_of(self, source_axis: int) -> list[Piece]:
        """All pieces of an axis of the source, in its own order."""
        return sorted((p for axis in self.axes for p in axis if p.axis == source_axis), key=lambda piece: piece.path)


def _missing(size: Any, taken: list[Piece]) -> Any:
    """How much of ``size`` is still to be filled; None where the sizes are not known."""
    have = math.prod(piece.size for piece in taken)
    return size // have if static((size, have)) and size % have == 0 else None


def static(sizes: Iterable[Any]) -> bool:
    """Whether no size depends on the input."""
    return all(isinstance(size, int) for size in sizes)


def order_of(move: Node, rank: int) -> list[int]:
    """Input axis per output axis of a permute or transpose."""
    a, order = bind(move), list(range(rank))
    if is_call(move, "aten.permute"):
        return [axis % rank for axis in a["dims"]]
    first, second = a["dim0"] % rank, a["dim1"] % rank
    order[first], order[second] = order[second], order[first]
    return order


def spread(values: Tensor, layout: Layout, source_axis: int) -> Tensor | None:
    """``[channels]`` as a tensor that broadcasts against the value: channel pieces in place, size one elsewhere.

    None where an axis joins channels with something else.
    """
    if any(0 < sum(p.axis == source_axis for p in axis) < len(axis) for axis in layout.axes):
        return None
    pieces = layout.pieces_of(source_axis)
    here = [piece for axis in layout.axes for piece in axis if piece.axis == source_axis]
    moved = values.reshape([piece.size for piece in pieces]).permute([pieces.index(piece) for piece in here])
    return moved.reshape([math.prod(p.size for p in axis if p.axis == source_axis) for axis in layout.axes])


@dataclass(frozen=True)
class Route:
    """A reshape, a permute and a reshape; -1 stands for a dynamic size, None for a step that is not needed."""

    sizes: list[int] | None
    order: list[int] | None
    result: list[int] | None

    @property
    def steps(self) -> int:
        return sum(step is not None for step in (self.sizes, self.order, self.result))


def route(source: Value, layout: Layout) -> Route | None:
    """The shortest way from ``source`` into ``layout``; None if more than one of the sizes to name is dynamic."""
    blocks = _blocks(layout)
    # Axes of size one stand where they will be: nothing has to move for them.
    entries: list[Piece | int] = [block[0] for block in blocks]
    known: list[Any] = [math.prod(piece.size for piece in block) for block in blocks]
    for index, axis in enumerate(layout.axes):
        if not axis:
            entries.insert(index, index)
            known.insert(index, 1)
    wanted = [entry for index, axis in enumerate(layout.axes) for entry in (axis or (index,)) if entry in entries]
    order = [entries.index(entry) for entry in wanted]
    result = [math.prod(piece.size for piece in axis) for axis in layout.axes]
    moves, start = order != sorted(order), tuple(source.shape)
    if not moves:
        known = result
    sizes, ends = _static_but_one(known), _static_but_one(result)
    first, last = not _same(start, known), not _same([known[axis] for axis in order] if moves else known, result)
    if (first and sizes is None) or (last and ends is None):
        return None
    return Route(sizes if first else None, order if moves else None, ends if last else None)


def laid_out(source: Value, layout: Layout) -> Value | None:
    """``source`` brought into ``layout`` along its :func:`route`; None if there is none."""
    found = route(source, layout)
    if found is None:
        return None
    moved = source if found.sizes is None else call("aten.reshape", source, found.sizes)
    moved = moved if found.order is None else call("aten.permute", moved, found.order)
    return moved if found.result is None else call("aten.reshape", moved, found.result)


def _same(first: Sequence[Any], second: Sequence[Any]) -> bool:
    return len(first) == len(second) and all(statically_known_true(a == b) for a, b in zip(first, second, strict=True))


def _blocks(layout: Layout) -> list[list[Piece]]:
    """The pieces in the source's order; those that are neighbours before and after, within one axis, move as one."""
    together = {pair for axis in layout.axes for pair in itertools.pairwise(axis)}
    blocks: list[list[Piece]] = []
    for piece in sorted((piece for axis in layout.axes for piece in axis), key=lambda piece: piece.path):
        if blocks and (blocks[-1][-1], piece) in together:
            blocks[-1].append(piece)
        else:
            blocks.append([piece])
    return blocks


def _static_but_one(sizes: list[Any]) -> list[int] | None:
    """Sizes for a reshape: one dynamic size may stand as -1."""
    dynamic = [index for index, size in enumerate(sizes) if isinstance(size, torch.SymInt)]
    return None if len(dynamic) > 1 else [-1 if index in dynamic else size for index, size in enumerate(sizes)]
