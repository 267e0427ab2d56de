"""The part of a build report that is about quantisation."""

from __future__ import annotations

from collections import Counter

from hycompile.program import Program
from hycompile.quantisation.converts import converts
from hycompile.quantisation.plan import Sensitivity
from hycompile.reports import QuantisationReport, SensitivityReport


def quantisation_report(program: Program) -> QuantisationReport:
    """What the plan of a quantised Program costs, and what it leaves in float."""
    plan = program.plan
    assert plan is not None
    measured = plan.measured
    assert measured is not None
    kept = Counter(layer.reason for layer in plan.kept)
    return QuantisationReport(
        calls=measured.calls,
        output_sqnr=measured.output_sqnr,
        worst_error=measured.worst_error,
        agreement=measured.agreement,
        layers=[(layer.method, layer.node, layer.sqnr) for layer in measured.layers],
        converts=converts(program),
        kept=kept.most_common(),
        values=plan.summary(),
        plan=plan.model_dump_json(),
        sensitivity=_sensitivity(plan.sensitivity) if plan.sensitivity is not None else None,
    )


def _sensitivity(found: Sensitivity) -> SensitivityReport:
    layers = [(layer.method, layer.node, layer.alone, layer.without, layer.kept) for layer in found.layers]
    return SensitivityReport(found.calls, found.together, layers)
