"""muP multipliers, and every other constant factor, into the weights around them."""

from __future__ import annotations

from typing import ClassVar

from hycompile.passes.fold_multipliers.absorbers import MULTIPLIER
from hycompile.passes.fold_multipliers.into_attention import fold_multiplier_into_attention
from hycompile.passes.fold_multipliers.into_consumers import fold_multiplier_into_consumers
from hycompile.passes.fold_multipliers.into_producers import fold_multiplier_into_producers
from hycompile.passes.fold_scale.identity import drop_identity_map
from hycompile.passes.fold_scale.pattern import no_values
from hycompile.pipeline import Check, RulePass
from hycompile.program import Program
from hycompile.reports import RuleReport
from hycompile.rewrite import Rule


class FoldMultipliers(RulePass):
    """Constant factors go into what comes before, else into all that comes after, else into the scale of attention.

    What ``fold-scale`` does of factors, and more: it sees language models whole. Factors pass rotary embeddings, sums,
    concatenations and pieces; embeddings take them; and a table that embedding and head share stays one table.
    """

    name: ClassVar[str] = "fold-multipliers"
    rules: ClassVar[tuple[Rule, ...]] = (
        drop_identity_map,
        fold_multiplier_into_producers,
        fold_multiplier_into_consumers,
        fold_multiplier_into_attention,
    )

    def run(self, program: Program, check: Check) -> list[RuleReport]:
        if program.on_meta:
            _refuse_multipliers(program)
        return super().run(program, check)


def _refuse_multipliers(program: Program) -> None:
    for method in program.methods.values():
        for node in method.graph.graph.nodes:
            if MULTIPLIER.match(method.graph, node, {}) is not None:
                raise no_values(node)
