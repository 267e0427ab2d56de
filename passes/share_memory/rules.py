"""Rules of other passes, at the nodes of a gated memory alone."""

from __future__ import annotations

from dataclasses import replace

from torch.fx import GraphModule, Node

from hycompile.passes.fold_multipliers.absorbers import MULTIPLIER
from hycompile.passes.fold_multipliers.into_consumers import fold_multiplier_into_consumers
from hycompile.passes.fold_norm_affine import AffineNorm, fold_norm_affine
from hycompile.passes.merge_projections import FirstOfSeveral, merge_projections
from hycompile.pattern import Any, Call, Captures, Const
from hycompile.rewrite import Rule


class _Among(Call):
    """A pattern, at the given nodes alone."""

    def __init__(self, pattern: Call, places: set[Node]) -> None:
        super().__init__(pattern.operators)
        self.pattern, self.places = pattern, places

    def match(self, module: GraphModule, value: object, captures: Captures) -> Captures | None:
        return self.pattern.match(module, value, captures) if value in self.places else None

    def names(self) -> set[str]:
        return self.pattern.names()


class _FirstGate(FirstOfSeveral):
    """The first of several gates that read one input; other linears of that input do not count."""

    def __init__(self, gates: set[Node]) -> None:
        super().__init__("aten.linear", input=Any("x"), weight=Const())
        self.gates = gates

    def match(self, module: GraphModule, value: object, captures: Captures) -> Captures | None:
        found = Call.match(self, module, value, captures)
        if found is None:
            return None
        gates = sorted(user for user in found["x"].node.users if user in self.gates)
        return found | {"linears": gates} if len(gates) > 1 and gates[0] is value else None


def fold_diagonals(places: set[Node]) -> Rule:
    """Constant factors among ``places`` into the linears behind them."""
    return replace(fold_multiplier_into_consumers, pattern=_Among(MULTIPLIER, places))


def fold_norms(places: set[Node]) -> Rule:
    """Weights of norms among ``places`` into the linears behind them."""
    return replace(fold_norm_affine, pattern=_Among(AffineNorm(), places))


def merge_gates(gates: set[Node]) -> Rule:
    """Those of ``gates`` that read one input as one linear."""
    return replace(merge_projections, pattern=_FirstGate(gates))
