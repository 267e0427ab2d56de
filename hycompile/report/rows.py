"""Rows of the tables: the same texts serve the terminal and the HTML page."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

from hycompile.measure.eager import NO_LATENCY
from hycompile.reports import BuildReport, Refusal, RuntimeReport

_DELEGATED = "delegated_share"
_NOTHING: tuple[object, ...] = ([], {}, "", None)


@dataclass(frozen=True)
class RuntimeRow:
    """What became of one runtime, as texts; empty where there is nothing to say."""

    runtime: str
    status: str
    precision: str
    error: str
    size: str
    latency: str
    interval: str
    ratio: str
    ratio_interval: str
    delegated: str
    seconds: str
    cached: bool
    reason: str
    facts: dict[str, list[str]]


@dataclass(frozen=True)
class RuleRow:
    """One rule of a pass, as texts."""

    name: str
    hits: int
    refusals: list[Refusal]
    error_fp32: str
    error_fp64: str
    seconds: str
    facts: str


@dataclass(frozen=True)
class PassRow:
    """One pass with its rules that hit or refused something."""

    text: str
    hits: int
    refused: int
    seconds: str
    rules: list[RuleRow]


def runtime_rows(report: BuildReport) -> list[RuntimeRow]:
    """A row per runtime, in the order they were built."""
    return [_runtime_row(result) for result in report.runtimes]


def _runtime_row(result: RuntimeReport) -> RuntimeRow:
    latency, ratio = cast("dict[str, Any]", result.latency or {}), cast("dict[str, Any]", result.ratio or {})
    told = {key: value for key, value in result.facts.items() if value not in _NOTHING and key != NO_LATENCY}
    # A backend that says why operators fell out of its delegate says there what it said before as obstacles.
    if "reasons" not in told and result.obstacles:
        told["obstacles"] = result.obstacles
    facts = {key: fact_lines(value) for key, value in told.items()}
    return RuntimeRow(
        runtime=result.runtime,
        status=result.status,
        precision=result.precision,
        error=error_text(result.rel_err),
        size=size_text(result.size_bytes),
        latency=f"{latency['median_ms']:.3g} ms" if latency else "",
        interval=_span(latency["interval_ms"], ".3g") if latency else "",
        ratio=f"{ratio['ratio']:.2f}" if ratio else "",
        ratio_interval=_span(ratio["interval"], ".2f") if ratio else "",
        delegated=_share(result.facts.get(_DELEGATED)),
        seconds=f"{result.seconds:.1f} s",
        cached=result.cached,
        reason=result.reason,
        facts={key.replace("_", " "): lines for key, lines in facts.items()},
    )


def pass_rows(report: BuildReport) -> list[PassRow]:
    """A row per pass."""
    rows: list[PassRow] = []
    for step in report.pipeline.passes:
        rules = [
            RuleRow(
                rule.rule,
                rule.hits,
                rule.refusals,
                error_text(rule.error_fp32),
                error_text(rule.error_fp64),
                f"{rule.seconds:.1f}",
                ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in rule.facts.items()),
            )
            for rule in step.rules
            if rule.hits or rule.refusals or rule.facts
        ]
        refused = sum(len(rule.refusals) for rule in step.rules)
        rows.append(PassRow(step.text, step.hits, refused, f"{step.seconds:.1f}", rules))
    return rows


def error_text(error: float | None) -> str:
    """``1.2e-07``; empty when nothing was compared."""
    if error is None:
        return ""
    return f"{error:.1e}" if math.isfinite(error) else "infinite"


def size_text(size_bytes: int | None) -> str:
    """Decimal units, as disks are sold: ``45.2 MB``."""
    if size_bytes is None:
        return ""
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 1e5 else f"{size_bytes / 1e3:.1f} kB"


def fact_lines(value: object) -> list[str]:
    """A backend's fact, a JSON value, as lines of text; counts share a line, reasons read as sentences."""
    if isinstance(value, dict):
        return _table_lines(cast("dict[str, Any]", value))
    if isinstance(value, (list, tuple)):
        return [", ".join(fact_lines(item)) for item in cast("list[Any]", value)]
    return [f"{value:.4g}"] if isinstance(value, float) else [str(value)]


def _table_lines(table: dict[str, Any]) -> list[str]:
    if {"operator", "reason"} <= table.keys():
        count = f" (x{table['count']})" if table.get("count", 1) != 1 else ""
        where = f" at {table['where']}" if table.get("where") else ""
        return [f"{table['operator']}{count}{where}: {table['reason']}"]
    filled = {key: value for key, value in table.items() if value not in _NOTHING}
    if all(isinstance(value, (int, float)) for value in filled.values()):
        return [", ".join(f"{key} {value}" for key, value in filled.items())]
    return [f"{key}: {'; '.join(fact_lines(value))}" for key, value in filled.items()]


def _span(interval: list[float], form: str) -> str:
    return f"{interval[0]:{form}} to {interval[1]:{form}}"


def _share(value: object) -> str:
    return f"{100 * value:.0f} %" if isinstance(value, (int, float)) else ""
