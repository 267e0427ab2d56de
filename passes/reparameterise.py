"""Everything that makes a trained network smaller without changing what it computes."""

from __future__ import annotations

from typing import ClassVar

from torch.fx import Node

from hycompile.passes.cut_dead_rows import CutDeadRows
from hycompile.passes.fold_batch_norm import RULES as BATCH_NORM_RULES
from hycompile.passes.fold_batch_norm.pattern import BATCH_NORM
from hycompile.passes.fold_constants import FoldConstants
from hycompile.passes.fold_norm_affine import fold_norm_affine
from hycompile.passes.fold_scale import RULES as SCALE_RULES
from hycompile.passes.fold_scale.left import foldable_scales
from hycompile.passes.merge_constants import MergeConstants
from hycompile.passes.merge_convolutions import RULES as CONVOLUTION_RULES
from hycompile.passes.merge_convolutions import mergeable
from hycompile.passes.merge_linears import RULES as LINEAR_RULES
from hycompile.passes.merge_reshapes import merge_reshapes
from hycompile.passes.move_before_upsample import RULES as UPSAMPLE_RULES
from hycompile.passes.remove_unused_state import RemoveUnusedState
from hycompile.pipeline import Check, RulePass
from hycompile.program import Program, source_line
from hycompile.reports import Refusal, RuleReport
from hycompile.rewrite import Rule
from hycompile.schema import bind, is_call

_AFTERWARDS = (CutDeadRows(), MergeConstants(), RemoveUnusedState())


class Reparameterise(RulePass):
    """Constants are folded, then batch norms, scales and weights of norms into their linear neighbours.

    Parallel branches, and linear operators in a row, become one where that costs no more; what is unused or there twice
    is removed. No batch norm is left, no constant factor that a linear operator could take in, and no branches that one
    convolution could stand for, except those the report names with the reason.
    """

    name: ClassVar[str] = "reparameterise"
    rules: ClassVar[tuple[Rule, ...]] = (
        *BATCH_NORM_RULES,
        *CONVOLUTION_RULES,
        *LINEAR_RULES,
        *SCALE_RULES,
        fold_norm_affine,
        *UPSAMPLE_RULES,
        merge_reshapes,
    )

    def run(self, program: Program, check: Check) -> list[RuleReport]:
        before = FoldConstants().run(program, check)
        folded = super().run(program, check)
        known = {refusal.node for report in folded for refusal in report.refusals}
        for node in _batch_norms(program):
            if node.name not in known:
                reason = "its weight, bias or statistics are computed at run time"
                folded[-1].refusals.append(Refusal(reason, node.name, source_line(node)))
        after = [report for step in _AFTERWARDS for report in step.run(program, check)]
        return [*before, *folded, *after]

    def ensures(self, program: Program) -> str | None:
        norms = [node.name for node in _batch_norms(program) if _foldable(node)]
        if norms:
            return f"batch norms left: {', '.join(norms)}"
        scales = foldable_scales(program)
        if scales:
            return f"scales left that a linear operator can take in: {', '.join(scales)}"
        branches = mergeable(program)
        return f"mergeable branches left: {', '.join(branches)}" if branches else None


def _batch_norms(program: Program) -> list[Node]:
    graphs = [method.graph.graph for method in program.methods.values()]
    return [node for graph in graphs for node in graph.nodes if is_call(node, "aten.batch_norm")]


def _foldable(node: Node) -> bool:
    matches = BATCH_NORM.match(node.graph.owning_module, node, {}) is not None  # type: ignore[arg-type]
    return matches and not bind(node)["training"]
