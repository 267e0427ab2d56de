"""Everything that makes a trained network smaller without changing what it computes."""

from __future__ import annotations

from typing import ClassVar

from hycompile.passes.fold_batch_norm import RULES as BATCH_NORM_RULES
from hycompile.passes.fold_constants import FoldConstants
from hycompile.passes.remove_unused_state import RemoveUnusedState
from hycompile.pipeline import Check, RulePass
from hycompile.program import Program
from hycompile.reports import RuleReport
from hycompile.rewrite import Rule
from hycompile.schema import is_call


class Reparameterise(RulePass):
    """Constants are folded, then batch norms; what that leaves unused is removed. No batch norm is left."""

    name: ClassVar[str] = "reparameterise"
    rules: ClassVar[tuple[Rule, ...]] = BATCH_NORM_RULES

    def run(self, program: Program, check: Check) -> list[RuleReport]:
        before = FoldConstants().run(program, check)
        return [*before, *super().run(program, check), *RemoveUnusedState().run(program, check)]

    def ensures(self, program: Program) -> str | None:
        left = [
            node.name
            for m in program.methods.values()
            for node in m.graph.graph.nodes
            if is_call(node, "aten.batch_norm")
        ]
        training = [name for name in left if name]
        return f"batch norms left: {', '.join(training)}" if training else None
