"""What moving data costs: elements a graph copies without computing anything."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.fx import Node

from hycompile.passes.layout.chain import MOVES, PERMUTES, is_taken_in, move_of
from hycompile.passes.layout.move import Move
from hycompile.program import Program
from hycompile.schema import is_call

COPIES = (
    "aten.cat",
    "aten.stack",
    "aten.slice.Tensor",
    "aten.select.int",
    "aten.split.Tensor",
    "aten.split_with_sizes",
    "aten.chunk",
    "aten.unbind.int",
    "aten.expand",
    "aten.repeat",
    "aten.clone",
    "aten.index.Tensor",
    "aten.roll",
    "aten.flip",
)


@dataclass(frozen=True)
class Weights:
    """What a target pays for moves, in elements copied.

    Args:
        operator: one more operator. Chosen, not measured: it decides between forms that copy about the same.
        channels_last: images lie channels-last in memory, so that a move between an image and tokens is a view.
        anywhere: layer norm is over any axis, and attention takes and gives its last two axes either way round.
    """

    operator: int
    channels_last: bool = False
    anywhere: bool = False

    def of(self, move: Move) -> int:
        """What a move costs."""
        return 2 * move.elements + self.operator * len(move.steps())


TARGETS = {"generic": Weights(64), "coreml": Weights(1024, anywhere=True), "xnnpack": Weights(64, channels_last=True)}


def moved_bytes(program: Program) -> int:
    """Bytes read and written by operators that compute nothing; a reshape of data that is in order moves none."""
    return sum(_node_bytes(node) for node in _calls(program))


def move_operators(program: Program) -> int:
    """How many operators compute nothing."""
    return sum(is_call(node, *MOVES, *COPIES) and not is_taken_in(node) for node in _calls(program))


def _calls(program: Program) -> Iterable[Node]:
    for method in program.methods.values():
        yield from (node for node in method.graph.graph.nodes if node.op == "call_function")


def _node_bytes(node: Node) -> int:
    if is_call(node, *COPIES):
        return 2 * _size_bytes(node.meta["val"])
    move = move_of(node)
    if move is None:
        copied = is_call(node, *PERMUTES) and not is_taken_in(node)
        return 2 * _size_bytes(node.meta["val"]) if copied else 0
    return 2 * move.elements * node.meta["val"].element_size()


def _size_bytes(value: Any) -> int:
    """Of one tensor or several; a dynamic size counts as it was captured."""
    if not isinstance(value, Tensor):
        return sum(_size_bytes(item) for item in value)
    return math.prod([_hint(size) for size in value.shape]) * value.element_size()


def _hint(size: Any) -> int:
    return size if isinstance(size, int) else int(size.node.hint)
