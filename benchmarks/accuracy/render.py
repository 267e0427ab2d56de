"""results.json, README.md and the charts from the records, and nothing else: the same records give the same text."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from benchmarks.accuracy.chart import draw
from benchmarks.accuracy.language_table import language_goals, language_section
from benchmarks.accuracy.methods import EVERY, OURS, PARTS
from benchmarks.accuracy.page_text import ABLATION, HEAD, READING
from benchmarks.accuracy.records import SIMULATION, Record
from benchmarks.accuracy.rows import Row, dump, rows
from benchmarks.accuracy.summary import NOT_MEASURED, Table, goals, losses, mean_loss, methods_of, tables
from hycompile.files import write_text


def write_page(folder: Path, records: Sequence[Record]) -> None:
    """``results.json``, README.md, and a chart for each pair of bits."""
    table = rows(records)
    write_text(folder / "results.json", dump(table))
    write_text(folder / "README.md", render(records))
    for bits in _bits(table):
        write_text(folder / _chart_name(bits), draw(tables(table), bits))


def render(records: Sequence[Record]) -> str:
    """The page as Markdown."""
    table = rows(records)
    parts = [HEAD, "## Goals\n\n" + "\n".join(_goals(table)) + "\n"]
    for bits in _bits(table):
        parts.append(f"## {bits}\n\n![points lost, {bits}]({_chart_name(bits)})\n")
        for (bed, other, metric), found in tables(table).items():
            if other == bits:
                shown = [method for method in methods_of(found) if method not in PARTS]
                parts.append(_title(bed, metric, bits, found) + "\n".join(_table(found, shown)) + "\n")
    parts += _ablation(table)
    parts += [*filter(None, [language_section(table)]), READING, "## Methods\n\n" + "\n".join(_methods(records)) + "\n"]
    failed = [
        f"- {record.bed}, {record.model}, seed {record.seed}, {record.method} W{record.weight_bits}"
        f"A{record.activation_bits}, {record.runner}: `{record.reason.replace('`', chr(39))}`"
        for record in records
        if record.status == "failed"
    ]
    if failed:
        parts.append("## Failed\n\n" + "\n".join(failed) + "\n")
    return "\n".join(parts)


def _bits(table: Sequence[Row]) -> list[str]:
    """Pairs of bits in order of the tables."""
    return list(dict.fromkeys(bits for _, bits, _ in tables(table)))


def _chart_name(bits: str) -> str:
    return f"{bits.lower()}.svg"


def _goals(table: Sequence[Row]) -> list[str]:
    found = goals(table) + language_goals(table)
    if not found:
        return [f"{NOT_MEASURED.capitalize()}."]
    return [_line("goal", "wanted", "measured"), _rule(3), *(_line(*goal) for goal in found)]


def _ablation(table: Sequence[Row]) -> list[str]:
    """What is left with one part of our method after another, where all of them were measured."""
    found: list[str] = []
    for (bed, bits, metric), networks in tables(table).items():
        stages = [*PARTS, OURS]
        whole = {model: row for model, row in networks.items() if all(stage in row for stage in stages)}
        if whole:
            found.append(_title(bed, metric, bits, whole) + "\n".join(_table(whole, stages)) + "\n")
    return [f"## Parts of {OURS}\n\n{ABLATION}", *found] if found else []


def _title(bed: str, metric: str, bits: str, found: Table) -> str:
    """The heading of a table, with how much its figures are of."""
    samples = sorted({one.samples for row in found.values() for one in row.values()})
    return f"### {bed}: {metric} in percent of {' or '.join(f'{count:,}' for count in samples)}, {bits}\n\n"


def _table(found: Table, methods: Sequence[str]) -> list[str]:
    """A network a line, and what each method loses."""
    lines = [_line("network", "float", *methods), _rule(2 + len(methods))]
    for model, row in found.items():
        best = min((one.loss for method, one in row.items() if method in methods), default=0.0)
        reference = next(iter(row.values())).reference
        lines.append(_line(model, f"{reference:.2f}", *(_cell(row.get(method), best) for method in methods)))
    means = [mean_loss(found, method) for method in methods]
    lines.append(_line("lost, mean", "", *("" if loss is None else f"{loss:.2f}" for loss in means)))
    worst = [max(losses(found, method).values()) for method in methods]
    lines.append(_line("lost, most", "", *(f"{loss:.2f}" for loss in worst)))
    return lines


def _cell(row: Row | None, best: float) -> str:
    if row is None:
        return ""
    mean = f"**{row.mean:.2f}**" if row.loss == best else f"{row.mean:.2f}"
    return mean if row.spread is None else f"{mean} ± {row.spread:.2f}"


def _methods(records: Sequence[Record]) -> list[str]:
    """Each method's passes with the bits left open, and what it costs."""
    seconds: dict[str, list[float]] = defaultdict(list)
    texts: dict[str, str] = {}
    for record in records:
        texts.setdefault(record.method, EVERY.get(record.method, record.pipeline))
        if record.quantise_seconds is not None and record.runner == SIMULATION:
            seconds[record.method].append(record.quantise_seconds)
    lines = [_line("method", "passes", "seconds of one processor to quantise, median"), _rule(3)]
    for method in [*(method for method in EVERY if method in texts), *sorted(set(texts) - set(EVERY))]:
        cost = f"{statistics.median(seconds[method]):.0f}" if seconds[method] else ""
        lines.append(_line(method, f"`{texts[method]}`", cost))
    return lines


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(columns: int) -> str:
    return f"|{'---|' * columns}"
