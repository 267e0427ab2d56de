"""The tables of README.md and the chart, from the records and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.language.chart import draw
from benchmarks.language.page_text import ABOUT
from benchmarks.language.records import Record
from benchmarks.language.sittings import COMPARISONS, FULL
from hycompile.files import write_text

BEGIN, END = "<!-- results: made by run.py, do not edit -->", "<!-- end of results -->"
# More than this of one processor busy with other work, and a sitting's times are doubtful.
_BUSY_CPUS = 0.1
_GOAL_TOKENS = 2048
NOT_MEASURED = "not measured yet"
_COLUMNS = ("tokens/s", "CPU ratio", "time ratio", "state", "rel. error")


def write_page(folder: Path, records: Sequence[Record]) -> None:
    """What stands between the markers of README.md, and a chart per thread count that has anything to show."""
    path = folder / "README.md"
    write_text(path, insert(path.read_text(encoding="utf-8"), render(records)))
    for threads in _thread_counts(records):
        chart = draw(records, threads)
        if chart is not None:
            write_text(folder / _chart_name(threads), chart)


def insert(page: str, tables: str) -> str:
    """The page with these tables between its markers.

    Raises:
        ValueError: the markers are not there.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no {BEGIN!r} and {END!r} in the page: put them where the tables belong")
    return f"{before}{BEGIN}\n\n{tables}\n{END}{after}"


def render(records: Sequence[Record]) -> str:
    """The tables as Markdown."""
    parts, notes = ["\n".join(_goals(records)) + "\n"], dict[str, int]()
    for comparison in COMPARISONS:
        mine = [record for record in records if record.comparison == comparison]
        title, about = ABOUT[comparison]
        parts.append(f"## {title}\n\n{about}\n")
        parts.append("\n".join(_table(mine, notes)) + "\n" if mine else f"{NOT_MEASURED.capitalize()}.\n")
        if comparison == "context":
            parts += [
                f"![decode time against context]({_chart_name(n)})\n" for n in _thread_counts(mine) if draw(mine, n)
            ]
    if notes:
        lines = [f"{number}. `{reason.replace('`', chr(39))}`" for reason, number in notes.items()]
        parts.append("### Reasons\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts + _conditions(records))


def _goals(records: Sequence[Record]) -> list[str]:
    """What is wanted of a ratio, each thread count in a column of its own."""
    counts = _thread_counts(records) or [1, 2]
    lines = [_row("goal", "wanted", *(f"x{threads}" for threads in counts)), _rule(2 + len(counts))]
    for model, tokens in FULL.cuts:
        if tokens == _GOAL_TOKENS:
            goal = "cut", model, "cut", "prefill", tokens
            ratios = {record.threads: record.wall_ratio for record in records if record.cell[:5] == goal}
            cells = [NOT_MEASURED if (ratio := ratios.get(threads)) is None else f"{ratio:.2f}" for threads in counts]
            what = f"{model}: prefill of {tokens} tokens with the cut, over the time without"
            lines.append(_row(what, "<= 0.55", *cells))
    return lines


def _table(records: Sequence[Record], notes: dict[str, int]) -> list[str]:
    """A row a sitting's contender, those of several thread counts beside each other."""
    counts = _thread_counts(records)
    header = [f"{column} x{threads}" for threads in counts for column in _COLUMNS[:3]]
    lines = [_row("model", "mode", "context", "contender", *header, *_COLUMNS[3:])]
    lines.append(_rule(4 + len(header) + 2))
    rows = dict[tuple[str, str, int, str], dict[int, Record]]()
    for record in records:
        key = record.model, record.mode, record.context, record.contender
        rows.setdefault(key, {})[record.threads] = record
    for (model, mode, context, contender), row in sorted(rows.items(), key=lambda one: _place(one[0])):
        first = next(iter(row.values()))
        cells = [cell for threads in counts for cell in _timed(row.get(threads), notes)]
        lines.append(_row(model, mode, str(context), contender, *cells, _bytes(first.state_bytes), _error(first)))
    return lines


def _place(key: tuple[str, str, int, str]) -> tuple[object, ...]:
    model, mode, context, contender = key
    return mode == "decode", context, model, contender


def _timed(record: Record | None, notes: dict[str, int]) -> list[str]:
    if record is None:
        return ["", "", ""]
    if record.tokens_per_second is None:
        reason = " ".join(record.reason.split())
        return [f"**{record.status}** [{notes.setdefault(reason, len(notes) + 1)}]", "", ""]
    return [f"{record.tokens_per_second:.4g}", _ratio(record, "cpu"), _ratio(record, "wall")]


def _ratio(record: Record, clock: str) -> str:
    value, interval = getattr(record, f"{clock}_ratio"), getattr(record, f"{clock}_interval")
    if value is None:
        return "no reference"
    if record.reference == record.contender or record.reference == record.model:
        return "1"
    return f"{value:.2f} ({interval.low:.2f}-{interval.high:.2f})"


def _bytes(count: int | None) -> str:
    if count is None:
        return ""
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def _error(record: Record) -> str:
    return "" if record.rel_err is None else f"{record.rel_err:.0e}"


def _conditions(records: Iterable[Record]) -> list[str]:
    known = [record for record in records if record.conditions is not None]
    if not known:
        return []
    machines, tools = dict[str, int](), dict[str, str]()
    for record in known:
        if record.conditions is not None:
            machines[record.conditions.cpu] = record.conditions.cpus
            tools |= record.conditions.tools
    busy = sum((record.others_cpus or 0.0) > _BUSY_CPUS for record in known)
    where = ", ".join(f"{cpus} processors of {cpu}" for cpu, cpus in machines.items())
    text = (
        f"### Conditions\n\nMeasured on {where}, with {', '.join(f'{name} {tools[name]}' for name in sorted(tools))}."
    )
    if busy:
        text += f"\n**{busy} of {len(known)} cells shared the machine** with work that kept more than {_BUSY_CPUS:g}"
        text += " processors busy: their times say little."
    return [f"{text}\n"]


def _thread_counts(records: Iterable[Record]) -> list[int]:
    return sorted({record.threads for record in records})


def _chart_name(threads: int) -> str:
    return f"context-{threads}.svg"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(columns: int) -> str:
    return f"|{'---|' * columns}"
