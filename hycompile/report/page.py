"""Renders a build report as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hycompile.measure.conditions import Conditions
from hycompile.measure.eager import EAGER, NO_LATENCY
from hycompile.report.charts import strip_plot
from hycompile.report.difference import operator_counts, side_by_side
from hycompile.report.quantisation import evaluation_lines, quantisation_lines
from hycompile.report.rows import pass_rows, runtime_rows
from hycompile.report.sensitivity import picture
from hycompile.reports import BuildReport, RuntimeReport

if TYPE_CHECKING:
    from hycompile.target import Target

_HERE = Path(__file__).parent
_SHOWN_OPERATORS = 12


@dataclass(frozen=True)
class Verdict:
    """The headline; ``kind`` is good, partial or bad."""

    kind: str
    text: str


def verdict(report: BuildReport) -> Verdict:
    """What became of the build, in one sentence."""
    count = dict.fromkeys(("proved", "built", "refused", "failed"), 0)
    for result in report.runtimes:
        count[result.status] += 1
    parts = [
        f"{number} {status}{', not run' if status == 'built' else ''}" for status, number in count.items() if number
    ]
    kind = "bad" if count["failed"] else "partial" if count["refused"] or not count["proved"] else "good"
    runtimes = f"{len(report.runtimes)} runtime{'' if len(report.runtimes) == 1 else 's'}"
    return Verdict(kind, f"{runtimes}: {'; '.join(parts) or 'nothing was built'}")


def render(report: BuildReport, target: Target, command: str) -> str:
    """The page as text.

    Args:
        report: what the build did and measured.
        target: the device it was for.
        command: the command line that made it.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    measured = [result for result in report.runtimes if result.latency is not None]
    return environment.get_template("template.html.j2").render(
        report=report,
        target=target,
        style=Markup((_HERE / "style.css").read_text()),
        verdict=verdict(report),
        rows=runtime_rows(report),
        plot=strip_plot(_samples(report)),
        ratio_verdicts=[result.ratio["verdict"] for result in measured if result.ratio is not None],
        conditions=next((Conditions(**_part(result.latency, "conditions")) for result in measured), None),
        unmeasured=_unmeasured(report),
        operator_times={item.runtime: _time_bars(item) for item in report.runtimes if item.profile},
        passes=pass_rows(report),
        quantisation=quantisation_lines(report),
        sensitivity=picture(report.quantisation.sensitivity) if report.quantisation is not None else None,
        evaluation=evaluation_lines(report),
        counts=_count_bars(report),
        diff=side_by_side(report.graph_before, report.graph_after),
        provenance=_provenance(report, measured, command),
    )


def _part(document: dict[str, object] | None, key: str) -> dict[str, Any]:
    return cast("dict[str, Any]", (document or {})[key])


def _samples(report: BuildReport) -> dict[str, Sequence[float]]:
    """Samples in milliseconds of eager PyTorch and of every runtime that was measured."""
    everything = {EAGER: report.eager} | {result.runtime: result.latency for result in report.runtimes}
    return {name: cast("list[float]", found["samples_ms"]) for name, found in everything.items() if found is not None}


def _unmeasured(report: BuildReport) -> dict[str, str]:
    """Why a runtime has no latency, by runtime: it could not run here, or its speed here would mean nothing."""
    reasons = {
        item.runtime: item.reason or str(item.facts.get(NO_LATENCY, "")) for item in report.runtimes if not item.latency
    }
    return {name: reason for name, reason in reasons.items() if reason}


def _time_bars(result: RuntimeReport) -> list[dict[str, Any]]:
    times = sorted(result.profile, key=lambda time: -time[2])
    total, largest = sum(ms for _, _, ms in times) or 1.0, times[0][2] or 1.0

    def bar(name: str, calls: int, ms: float) -> dict[str, Any]:
        value = f"{ms:.3g} ms, {100 * ms / total:.0f} %, {calls} call{'' if calls == 1 else 's'}"
        return {"name": name, "share": round(min(1.0, ms / largest), 4), "value": value}

    bars = [bar(*time) for time in times[:_SHOWN_OPERATORS]]
    rest = times[_SHOWN_OPERATORS:]
    if rest:
        left = sum(ms for _, _, ms in rest)
        bars.append(bar(f"{len(rest)} more kinds", sum(calls for _, calls, _ in rest), left))
    return bars


def _count_bars(report: BuildReport) -> list[dict[str, Any]]:
    counts = operator_counts(report.graph_before, report.graph_after)
    largest = max((max(item.before, item.after) for item in counts), default=1)
    return [
        {
            "name": item.operator,
            "before": item.before,
            "after": item.after,
            "before_share": round(item.before / largest, 4),
            "after_share": round(item.after / largest, 4),
        }
        for item in counts
    ]


def _provenance(report: BuildReport, measured: list[RuntimeReport], command: str) -> dict[str, str]:
    facts = {"command": command, "model": report.source, "program digest": report.digest, **report.provenance}
    for result in measured[:1]:
        conditions = _part(result.latency, "conditions")
        facts |= {"system": conditions["system"], "python": conditions["python"]}
    return facts | report.tools
