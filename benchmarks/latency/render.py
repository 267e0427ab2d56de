"""README.md of this folder and its charts from the records, and nothing else: the same records give the same text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.latency.chart import draw
from benchmarks.latency.page_text import HEAD, READING
from benchmarks.latency.records import CONTENDERS, REFERENCE, Record
from benchmarks.latency.summary import (
    NOT_MEASURED,
    Clock,
    Models,
    Spread,
    against,
    build_ratio,
    by_model,
    goals,
    ratio_of,
)
from hycompile.files import write_text

# More than this of one processor busy with other work, and a sitting's wall times are doubtful.
_BUSY_CPUS = 0.1
_CLOCKS: tuple[tuple[Clock, str], ...] = (("wall", "Wall time"), ("cpu", "CPU time"))


def write_page(folder: Path, records: Sequence[Record]) -> None:
    """README.md, and a chart per thread count that has anything to show."""
    write_text(folder / "README.md", render(records))
    for threads in _thread_counts(records):
        chart = draw(by_model(records, threads), threads)
        if chart is not None:
            write_text(folder / _chart_name(threads), chart)


def render(records: Sequence[Record]) -> str:
    """The page as Markdown."""
    parts, notes = [HEAD], dict[str, int]()
    counts = _thread_counts(records)
    if not any(record.status == "timed" for record in records):
        parts.append("## Results\n\nNot measured yet: no run on a quiet machine has been committed.\n")
    parts.append("## Goals\n\n" + "\n".join(_goals(records, counts)) + "\n")
    for threads in counts:
        models = by_model(records, threads)
        title = f"{threads} thread{'s' if threads > 1 else ''}"
        chart = f"![who wins where, {title}]({_chart_name(threads)})\n\n" if draw(models, threads) else ""
        parts.append(f"## {title}\n\n{chart}" + "\n".join(_shortest(models)))
        for clock, name in _CLOCKS:
            parts.append(f"### {name} over ONNX Runtime's\n\n" + "\n".join(_ratios(models, clock, notes)) + "\n")
        parts.append("### Roofline\n\n" + "\n".join(_roofline(models)) + "\n")
    if counts:
        parts.append("## Building\n\n" + "\n".join(_building(by_model(records, counts[0]))) + "\n")
    parts.append(READING)
    if notes:
        lines = [f"{number}. `{reason.replace('`', chr(39))}`" for reason, number in notes.items()]
        parts.append("## Reasons\n\n" + "\n".join(lines) + "\n")
    parts += _conditions(records)
    return "\n".join(parts)


def _thread_counts(records: Sequence[Record]) -> list[int]:
    return sorted({record.threads for record in records})


def _chart_name(threads: int) -> str:
    return f"threads-{threads}.svg"


def _goals(records: Sequence[Record], counts: Sequence[int]) -> list[str]:
    """Goals of latency by wall time, each thread count in a column of its own."""
    columns = [goals(by_model(records, threads)) for threads in counts] or [goals({})]
    names = [f"{threads} thread{'s' if threads > 1 else ''}" for threads in counts] or ["measured"]
    lines = [_row("goal", "wanted", *names), _rule(2 + len(names))]
    for row in zip(*columns, strict=True):
        lines.append(_row(row[0].text, row[0].wanted, *(goal.measured for goal in row)))
    return lines


def _shortest(models: Models) -> list[str]:
    """Geomeans of every contender against the two that count."""
    lines = [_row("geomean over models", *CONTENDERS), _rule(1 + len(CONTENDERS))]
    for clock, name in _CLOCKS:
        for base in (REFERENCE, "executorch"):
            cells = [_mean(against(models, [contender], [base], clock)) for contender in CONTENDERS]
            lines.append(_row(f"{name} over {base}'s", *cells))
    return [*lines, ""]


def _ratios(models: Models, clock: Clock, notes: dict[str, int]) -> list[str]:
    lines = [_row("model", *CONTENDERS), _rule(1 + len(CONTENDERS))]
    for model, row in models.items():
        timed = [ratio for name in CONTENDERS if (ratio := ratio_of(row.get(name), clock)) is not None]
        cells = [_ratio_cell(row.get(name), clock, min(timed, default=0.0), notes) for name in CONTENDERS]
        lines.append(_row(model, *cells))
    return lines


def _ratio_cell(record: Record | None, clock: Clock, fastest: float, notes: dict[str, int]) -> str:
    if record is None:
        return ""
    if record.status != "timed":
        reason = " ".join(record.reason.split())
        return f"**{record.status}** [{notes.setdefault(reason, len(notes) + 1)}]"
    ratio, interval = ratio_of(record, clock), record.wall_interval if clock == "wall" else record.cpu_interval
    if ratio is None or interval is None:
        return "no reference"
    if record.contender == REFERENCE:
        return "1"
    shown = f"**{ratio:.2f}**" if ratio == fastest else f"{ratio:.2f}"
    return f"{shown} ({interval.low:.2f}-{interval.high:.2f})"


def _roofline(models: Models) -> list[str]:
    lines = [_row("model", "GEMM peak", *CONTENDERS), _rule(2 + len(CONTENDERS))]
    for model, row in models.items():
        peaks = [record.peak_gflops for record in row.values() if record.peak_gflops]
        peak = f"{max(peaks):.0f}" if peaks else ""
        lines.append(_row(model, peak, *(_achieved(row.get(name)) for name in CONTENDERS)))
    return lines


def _achieved(record: Record | None) -> str:
    if record is None or record.gflops is None or record.peak_gflops is None:
        return ""
    return f"{record.gflops:.0f} ({100 * record.gflops / record.peak_gflops:.0f} %)"


def _building(models: Models) -> list[str]:
    wall = build_ratio(models, "hycompile-executorch", "executorch")
    cpu = build_ratio(models, "hycompile-executorch", "executorch", "build_cpu_seconds")
    header = "hycompile-executorch over executorch, geomean"
    lines = [f"{header}: wall {_mean(wall)}, CPU {_mean(cpu)}.\n"]
    lines += [
        _row("model", "delegates, ours", "stock", "outside, ours", "stock", *CONTENDERS),
        _rule(5 + len(CONTENDERS)),
    ]
    for model, row in models.items():
        ours, stock = row.get("hycompile-executorch"), row.get("executorch")
        counts = [_count(one, field) for field in ("delegates", "outside_ops") for one in (ours, stock)]
        lines.append(_row(model, *counts, *(_build_cell(row.get(name)) for name in CONTENDERS)))
    return lines


def _count(record: Record | None, field: str) -> str:
    value: int | None = getattr(record, field, None)
    return "" if value is None else str(value)


def _build_cell(record: Record | None) -> str:
    if record is None or record.build_seconds is None:
        return ""
    passes = "" if record.passes_seconds is None else f", passes {record.passes_seconds:.1f}"
    return f"{record.build_seconds:.1f} (CPU {record.build_cpu_seconds or 0:.1f}{passes})"


def _conditions(records: Sequence[Record]) -> list[str]:
    known = [record for record in records if record.conditions is not None]
    if not known:
        return []
    machines = {record.conditions.cpu: record.conditions.cpus for record in known if record.conditions is not None}
    tools: Mapping[str, str] = {}
    for record in known:
        tools = {**tools, **(record.conditions.tools if record.conditions is not None else {})}
    loads = [record.conditions.load_before for record in known if record.conditions and record.conditions.load_before]
    busy = {(record.model, record.threads) for record in known if (record.others_cpus or 0.0) > _BUSY_CPUS}
    sittings = {(record.model, record.threads) for record in known}
    where = ", ".join(f"{cpus} processors of {cpu}" for cpu, cpus in machines.items())
    load = f"; load average before a run {max(loads):.1f} at most" if loads else ""
    text = f"## Conditions\n\nMeasured on {where}{load}.\n"
    if busy:
        text += (
            f"\n**{len(busy)} of {len(sittings)} sittings shared the machine** with work that kept more than "
            f"{_BUSY_CPUS:g} processors busy: their wall times say little.\n"
        )
    named = ", ".join(f"{name} {tools[name]}" for name in sorted(tools))
    return [f"{text}\nMade with {named}.\n"]


def _mean(found: Spread | None) -> str:
    return NOT_MEASURED if found is None else f"{found.mean:.2f} ({found.models})"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(columns: int) -> str:
    return f"|{'---|' * columns}"
