"""Weights and values take turns: each tries shares of its range, all others held, and keeps what costs least."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor
from torch.fx import Node

from hycompile.passes.quantise.cases import Case, Operands
from hycompile.passes.quantise.draft import Draft
from hycompile.passes.quantise.layers import Layer
from hycompile.passes.quantise.ranges import Range

# Of the range that was observed; what changes nothing comes first, so that it stays where nothing is better.
SHARES = (1.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.05, 1.1)


class Loss(Protocol):
    """What rounding costs."""

    def __call__(self, case: Case, found: list[Tensor], axis: int | None) -> Tensor:
        """The cost of a layer's outputs, call by call: ``[channels]`` along an axis, or ``[1]``; less is better."""
        ...


# What to try next, of the range first observed and the best one so far; of equals the first tried is taken.
Ladder = Callable[[Range, Range], Iterable[Range]]


def shares_of(first: Range, best: Range) -> Iterable[Range]:
    """Narrower and wider ranges about the same zero."""
    return [replace(best, low=first.low * share, high=first.high * share) for share in SHARES]


def least(first: Range, ladders: Sequence[Ladder], cost: Callable[[Range], float]) -> Range:
    """The range of the least cost on some ladders, each beginning where the last one ended."""
    best, lowest = first, math.inf
    for ladder in ladders:
        for tried in ladder(first, best):
            found = cost(tried)
            if found < lowest:
                best, lowest = tried, found
    return best


class Alternation:
    """Searches one method.

    Args:
        draft: whose ranges are changed.
        cases: its layers, with their data.
        loss: what to make small.
        by: the name of the search, for the ranges.
        ladders: what to try for values.
    """

    def __init__(
        self, draft: Draft, cases: list[Case], loss: Loss, by: str, ladders: Sequence[Ladder] = (shares_of,)
    ) -> None:
        self._draft, self._loss, self._by, self._ladders = draft, loss, by, ladders
        self._cases = {case.layer.node: case for case in cases if case.outputs}
        self._weights, self._values = dict(draft.weights), dict(draft.values)

    def run(self, turns: int = 2) -> None:
        """Every weight and then every value that layers read, in graph order; and again."""
        for _ in range(turns):
            for name in self._weights:
                self.weight(name)
            for source in self._values:
                self.value(source)

    def weight(self, name: str, *, together: bool = False) -> None:
        """Choose the range of one weight.

        Args:
            name: of the weight.
            together: change the ranges of all channels, as they are now, by one share, instead of each by its own.
        """
        first = self._draft.weights[name] if together else self._weights[name]
        cases = self._with_data(self._draft.users(name))
        if not cases:
            return
        apart = not together and first.axis is not None and all(case.layer.axis == first.axis for case in cases)
        given = [[self._rounded(case, operands) for operands in case.operands] for case in cases]
        best, chosen = torch.full((len(first.low) if apart else 1,), torch.inf).double(), torch.ones(1)
        for share in SHARES:
            total = torch.zeros((), dtype=torch.float64)
            for case, calls in zip(cases, given, strict=True):
                weight = first.times(share, self._by).round(case.weight)
                found = [case.compute(operands, weight) for operands in calls]
                total = total + self._loss(case, found, case.channels if apart else None)
            better = total < best
            best, chosen = torch.where(better, total, best), torch.where(better, share, chosen)
        self._draft.weights[name] = first.times(chosen, self._by)

    def value(self, source: Node) -> None:
        """Choose the range of one value by all layers that read it; left as it is if none does."""
        cases = self._with_data(self._draft.readers(source))
        if not cases:
            return
        weights = [
            None if case.layer.weight is None else self._draft.rounded_weight(case.layer, case.weight) for case in cases
        ]

        def cost(tried: Range) -> float:
            self._draft.values[source] = tried
            total = torch.zeros((), dtype=torch.float64)
            for case, weight in zip(cases, weights, strict=True):
                found = [case.compute(self._rounded(case, operands), weight) for operands in case.operands]
                total = total + self._loss(case, found, None)
            return float(total)

        self.keep(source, cost)

    def keep(self, source: Node, cost: Callable[[Range], float]) -> None:
        """Give a value the range of the least cost."""
        self._draft.values[source] = replace(least(self._values[source], self._ladders, cost), by=self._by)

    def _with_data(self, layers: list[Layer]) -> list[Case]:
        return [self._cases[layer.node] for layer in layers if layer.node in self._cases]

    def _rounded(self, case: Case, operands: Operands) -> dict[Node, Tensor]:
        read = case.layer.inputs
        return {node: self._draft.rounded(node, value) if node in read else value for node, value in operands.items()}
