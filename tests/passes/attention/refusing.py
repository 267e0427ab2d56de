"""What every refusal has in common: no hit, a reason with its values, and a graph that stays as it was."""

from __future__ import annotations

from hycompile.program import Program
from hycompile.rewrite import Rule, apply


def require_refusal(rule: Rule, program: Program, reason: str) -> None:
    """Apply ``rule``, which must refuse ``program`` for ``reason`` (part of the text)."""
    before = program.text()
    report = apply(rule, program)
    reasons = [refusal.reason for refusal in report.refusals]
    assert report.hits == 0, f"{rule.name} hit {report.hits} times"
    assert any(reason in found for found in reasons), f"refused for {reasons}"
    assert program.text() == before
