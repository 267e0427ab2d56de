"""Sums as lists of terms: ``a + (b - 2 * c)`` however its additions and subtractions are nested."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from torch.fx import GraphModule, Node

from hycompile.builder import Value, call
from hycompile.passes.merge_convolutions.branch import is_linear, source_of
from hycompile.pattern import Call, Captures
from hycompile.schema import bind, is_call

ADD, SUBTRACT = "aten.add.Tensor", "aten.sub.Tensor"


@dataclass(frozen=True)
class Term:
    """``factor * value``; the value is a node or a number."""

    factor: float
    value: Any


@dataclass(frozen=True)
class Pair:
    """Two terms of ``total`` that read the same value, and the other terms."""

    total: Node
    one: Term
    other: Term
    rest: tuple[Term, ...]


class SumOfTwo(Call, ABC):
    """A sum with two terms that ``accepts`` takes for parallel branches; captured as ``pairs``, one or several."""

    def __init__(self) -> None:
        super().__init__((ADD, SUBTRACT))

    @abstractmethod
    def accepts(self, one: Node, other: Node) -> bool:
        """Whether these two are branches of the rule's kind, in this order."""

    @abstractmethod
    def mergeable(self, pairs: list[Pair]) -> bool:
        """Whether one of ``pairs`` meets every precondition of the rule."""

    def match(self, module: GraphModule, value: object, captures: Captures) -> Captures | None:
        if super().match(module, value, captures) is None:
            return None
        pairs = self._pairs(value)  # type: ignore[arg-type]
        # What cannot be merged in part of a sum is left to the whole of it: one place, one refusal.
        if not pairs or (_is_partial(value) and not self.mergeable(pairs)):  # type: ignore[arg-type]
            return None
        return captures | {"pairs": pairs}

    def names(self) -> set[str]:
        return {"pairs"}

    def depth(self) -> int:
        return 3

    def _pairs(self, total: Node) -> list[Pair]:
        found = terms(total)
        dtype = total.meta["val"].dtype
        nodes = [term for term in found if isinstance(term.value, Node) and term.value.meta["val"].dtype == dtype]
        pairs: list[Pair] = []
        for one, other in combinations(nodes, 2):
            rest = tuple(term for term in found if term is not one and term is not other)
            if self.accepts(one.value, other.value):
                pairs.append(Pair(total, one, other, rest))
            elif self.accepts(other.value, one.value):
                pairs.append(Pair(total, other, one, rest))
        return pairs


def terms(total: Node) -> list[Term]:
    """What a sum adds up, in order; partial sums that nobody else uses are taken apart, zeros left out."""
    a = bind(total)
    sign = a["alpha"] * (-1 if is_call(total, SUBTRACT) else 1)
    found: list[Term] = []
    for factor, value in ((1, a["self"]), (sign, a["other"])):
        if is_call(value, ADD, SUBTRACT) and _is_partial(value):
            found += [Term(factor * term.factor, term.value) for term in terms(value)]
        elif isinstance(value, Node) or value != 0:
            found.append(Term(factor, value))
    return found


def _is_partial(total: Node) -> bool:
    """Whether its only use is in another sum."""
    return len(total.users) == 1 and is_call(next(iter(total.users)), ADD, SUBTRACT)


def reads_same(one: Node, other: Node) -> bool:
    """Whether both are convolutions or poolings of the same value."""
    return is_linear(one) and is_linear(other) and source_of(one) is source_of(other)


def is_source_of(one: Node, other: Node) -> bool:
    """Whether ``other`` is a convolution or pooling that reads ``one``."""
    return is_linear(other) and source_of(other) is one


def with_rest(result: Value, rest: tuple[Term, ...]) -> Value:
    """``result`` plus the other terms of its sum."""
    for term in rest:
        value = Value(term.value) if isinstance(term.value, Node) else term.value
        if abs(term.factor) == 1:
            result = call(ADD if term.factor > 0 else SUBTRACT, result, value)
        else:
            result = call(ADD, result, value, alpha=term.factor)
    return result
