"""Fewer transposes, reshapes and copies: moves composed, cancelled, and avoided by the choice of a layout."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from hycompile.passes.layout.choose_layouts import NAME, choose_layouts
from hycompile.passes.layout.compose_moves import compose_moves
from hycompile.passes.layout.cost import TARGETS, Weights, move_operators, moved_bytes
from hycompile.passes.layout.ends import NAME as ENDS
from hycompile.passes.layout.ends import swap_ends
from hycompile.pipeline import Check, Pass
from hycompile.program import Program
from hycompile.reports import RuleReport
from hycompile.rewrite import Rule, apply

__all__ = ["Layout"]


@dataclass(frozen=True)
class Layout(Pass):
    """Data moves less between image and token form: see the two rules.

    ``target`` says what moves cost: ``generic`` counts the elements copied; ``coreml`` sets an operator equal to more
    of them, and has layer norm and attention over any axis; ``xnnpack`` knows that images lie channels-last there. The
    report shows bytes and operators moved, before and after.
    """

    name: ClassVar[str] = "layout"
    rules: ClassVar[tuple[Rule, ...]] = (compose_moves,)
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {"target": tuple(TARGETS)}
    target: str = "generic"

    def __post_init__(self) -> None:
        if self.target not in TARGETS:
            raise ValueError(f"no target {self.target!r}; one of {', '.join(TARGETS)}")

    def run(self, program: Program, check: Check) -> list[RuleReport]:
        reports = {rule.name: RuleReport(rule.name) for rule in self.rules}
        chosen = RuleReport(NAME)
        chosen.facts = _facts(program, "before")
        hits = 1
        while hits:
            hits = 0
            for rule in self.rules:
                found, total = apply(rule, program), reports[rule.name]
                total.hits, total.seconds = total.hits + found.hits, total.seconds + found.seconds
                hits += found.hits
                if found.hits:
                    check(program, total)
            found = _choose(program, TARGETS[self.target], chosen)
            hits += found
            if found:
                check(program, chosen)
        ends = RuleReport(ENDS)
        ends.hits = sum(swap_ends(method.graph, TARGETS[self.target]) for method in program.methods.values())
        if ends.hits:
            check(program, ends)
        chosen.facts |= _facts(program, "after")
        return [*reports.values(), chosen, ends] if TARGETS[self.target].anywhere else [*reports.values(), chosen]


def _choose(program: Program, weights: Weights, report: RuleReport) -> int:
    start = time.perf_counter()
    hits = sum(choose_layouts(method.graph, weights) for method in program.methods.values())
    report.hits, report.seconds = report.hits + hits, report.seconds + time.perf_counter() - start
    return hits


def _facts(program: Program, when: str) -> dict[str, int]:
    return {f"moved_bytes_{when}": moved_bytes(program), f"move_operators_{when}": move_operators(program)}
