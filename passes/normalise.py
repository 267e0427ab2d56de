"""Bring every method into the normal form."""

from __future__ import annotations

import time
from typing import ClassVar

from hycompile.normal_form import normalise
from hycompile.pipeline import Check, Pass
from hycompile.program import Program
from hycompile.reports import RuleReport


class Normalise(Pass):
    """Functional operators only, views as reshape, batch norm with one output; see the page on the normal form.

    Capture already does it; a pipeline starts with it so that a Program built or edited elsewhere is safe to rewrite.
    """

    name: ClassVar[str] = "normalise"

    def run(self, program: Program, check: Check) -> list[RuleReport]:
        report, start = RuleReport("normalise"), time.perf_counter()
        for method in program.methods.values():
            report.hits += normalise(method.graph)
        report.seconds = time.perf_counter() - start
        if report.hits:
            check(program, report)
        return [report]
