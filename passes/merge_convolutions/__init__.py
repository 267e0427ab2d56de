"""Convolutions, poolings and identities that compute one linear map become one convolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch.fx import Node

from hycompile.passes.merge_convolutions.composition import compose
from hycompile.passes.merge_convolutions.cost import allowing
from hycompile.passes.merge_convolutions.parallel import (
    merge_identity_into_convolution,
    merge_parallel_convolutions,
    merge_pooling_mixer,
    merger,
)
from hycompile.passes.merge_convolutions.sequence import (
    merge_convolution_into_pointwise,
    merge_pointwise_into_convolution,
    merge_pooling_into_pointwise,
)
from hycompile.passes.merge_convolutions.zero import drop_added_zero
from hycompile.pipeline import Check, RulePass
from hycompile.program import Program
from hycompile.reports import RuleReport
from hycompile.rewrite import Refused, Rule

_PARALLEL = (merge_parallel_convolutions, merge_identity_into_convolution, merge_pooling_mixer)
_SEQUENCES = (merge_convolution_into_pointwise, merge_pointwise_into_convolution, merge_pooling_into_pointwise)
RULES = (drop_added_zero, *_PARALLEL, *_SEQUENCES)


@dataclass(frozen=True)
class MergeConvolutions(RulePass):
    """Parallel branches of a sum, and operators in a row, become one convolution where that costs no more.

    ``growth`` is how many times the multiply-accumulates of what it replaces a merged convolution may take.
    """

    name: ClassVar[str] = "merge-convolutions"
    rules: ClassVar[tuple[Rule, ...]] = RULES
    growth: float = 1.0

    def run(self, program: Program, check: Check) -> list[RuleReport]:
        with allowing(self.growth):
            return super().run(program, check)

    def ensures(self, program: Program) -> str | None:
        with allowing(self.growth):
            left = mergeable(program)
        return f"branches that could be one convolution left: {', '.join(left)}" if left else None


def mergeable(program: Program) -> list[str]:
    """Sums of branches, and convolutions of linear operators, that a rule of this folder would merge."""
    nodes = [node for method in program.methods.values() for node in method.graph.graph.nodes]
    return [node.name for node in nodes if any(_would_merge(rule, node) for rule in (*_PARALLEL, *_SEQUENCES))]


def _would_merge(rule: Rule, node: Node) -> bool:
    captures = rule.pattern.match(node.graph.owning_module, node, {})  # type: ignore[arg-type]
    if captures is None:
        return False
    try:
        if "pairs" in captures:
            merger(captures["pairs"])
        else:
            compose(captures["first"].node, captures["conv"].node)
    except Refused:
        return False
    return True
