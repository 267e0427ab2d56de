"""Recurrences over tokens in a form of plain operators, chosen by length and target."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

from hycompile.inline import Inliner
from hycompile.passes.lower_scans.forms import CACHES, FORMS, OPERATORS, Wishes, choose
from hycompile.pipeline import Check, Pass
from hycompile.program import Program, source_line
from hycompile.quantisation.state_path import mark_state_path
from hycompile.reports import Refusal, RuleReport
from hycompile.rewrite import Refused
from hycompile.schema import is_call

__all__ = ["LowerScans"]


@dataclass(frozen=True)
class LowerScans(Pass):
    """Recurrences over tokens become plain operators, whose number does not grow with the number of tokens.

    The operators ``hycompile::linear_recurrence``, ``selective_scan``, ``causal_conv`` and ``cache_write`` get the form
    that ``form`` names: ``auto`` writes the definition out for one token and uses matrix products over chunks for more
    (Dao and Gu 2024, section 6; for the delta rule the WY form of Yang et al. 2024); ``step`` and ``chunked`` insist on
    one of them; ``operator`` keeps what ONNX has from opset 27 (``LinearAttention``, ``CausalConvWithState``) and is
    ``auto`` for the rest. ``chunk`` and ``block`` size the chunks, 0 meaning what suits the operator. ``cache`` is how
    caches are written: ``where`` blends, which every runtime takes; ``index_put`` and ``index_copy`` touch the new
    slots only, and are used where all tokens count and fit.

    Refused where the number of tokens is dynamic: chunks need it.
    """

    name: ClassVar[str] = "lower-scans"
    form: str = "auto"
    chunk: int = 0
    block: int = 0
    cache: str = "where"

    def __post_init__(self) -> None:
        for option, value, known in (("form", self.form, FORMS), ("cache", self.cache, CACHES)):
            if value not in known:
                raise ValueError(f"no {option} {value!r}; one of {', '.join(known)}")
        for option, value in (("chunk", self.chunk), ("block", self.block)):
            if value < 0:
                raise ValueError(f"{option} is {value}; 0 for the form's own, or a number of tokens or chunks")

    def run(self, program: Program, check: Check) -> list[RuleReport]:
        inliner = Inliner("lower_scans")
        return [self._lower(program, operator, inliner, check) for operator in OPERATORS]

    def _lower(self, program: Program, operator: str, inliner: Inliner, check: Check) -> RuleReport:
        report, start = RuleReport(operator), time.perf_counter()
        wishes = Wishes(self.form, self.chunk or None, self.block or None, self.cache)
        for method in program.methods.values():
            module, before = method.graph, report.hits
            # What they decide by is not seen in plain operators, and whoever quantises asks for it.
            mark_state_path(module)
            for node in [node for node in module.graph.nodes if is_call(node, f"hycompile.{operator}")]:
                try:
                    form = choose(node, operator, wishes)
                    if form is None:
                        continue
                    inliner.inline(module, node, form.function, **form.options)
                except Refused as refusal:
                    report.refusals.append(Refusal(str(refusal), node.name, source_line(node)))
                else:
                    report.hits += 1
            if report.hits > before:
                module.graph.lint()
                module.recompile()
        report.seconds = time.perf_counter() - start
        if report.hits:
            check(program, report)
        return report
