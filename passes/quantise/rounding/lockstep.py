"""A method on many calls at once, so that a layer can be changed before what is behind it is computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor
from torch.fx import Node

from hycompile.attributes import used_tensors
from hycompile.parity import Paused, play
from hycompile.program import Method, Program

# Numbers held at once for all calls together, for each of two methods: a gigabyte of float32.
_MOST_HELD = 1 << 28

Start = tuple[Sequence[Any], dict[str, Tensor]]
"""Inputs of a call, flat, and the state before it."""


class Lockstep:
    """Runs each node for every call before the next node.

    Args:
        method: what to run.
        starts: the calls.
    """

    def __init__(self, method: Method, starts: Sequence[Start]) -> None:
        self._calls = [Paused(method, inputs, state) for inputs, state in starts]
        self._ahead = iter(list(method.graph.graph.nodes))
        self._next: Node | None = next(self._ahead, None)

    def until(self, node: Node) -> None:
        """Run all that stands before ``node``."""
        while self._next is not None and self._next is not node:
            for call in self._calls:
                call.advance(self._next)
            self._next = next(self._ahead, None)

    def again(self, *nodes: Node) -> None:
        """Run nodes once more, as constants they read have changed."""
        for node in nodes:
            for call in self._calls:
                call.again(node)

    def values(self, node: Node) -> Iterator[Tensor]:
        """What a node gave in each call; only before its last user has run."""
        return (call.env[node] for call in self._calls)


def starts(program: Program, method: str) -> list[Start]:
    """The calibration calls of a method, each with the state that the calls before it left."""
    steps = program.calibration
    if not any(each.mutated() for each in program.methods.values()):
        return [(step.inputs, {}) for step in steps if step.method == method]
    found: list[Start] = []
    state: dict[str, Tensor] = {}
    used = used_tensors(program.methods[method].graph)
    for step, result in zip(steps, play(program, steps), strict=True):
        if step.method == method:
            found.append((step.inputs, {name: state[name] for name in used if name in state}))
        state |= result.state
    return found


def affordable(method: Method, begun: list[Start]) -> list[Start]:
    """As many of the calls, evenly spread, as can be held at once, by what the first one holds; at least one."""
    if not begun:
        return begun
    first, held = Paused(method, *begun[0]), 0
    for node in method.graph.graph.nodes:
        first.advance(node)
        values = (value for source, value in first.env.items() if source.op != "get_attr")
        held = max(held, sum(value.numel() for value in values if isinstance(value, Tensor)))
    return begun[:: -(-len(begun) * held // _MOST_HELD) or 1]
