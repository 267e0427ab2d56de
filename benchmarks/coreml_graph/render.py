"""README.md of this folder from its records, and nothing else: the same records give the same text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from benchmarks.coreml_graph.records import Counts, Record

HEAD = """# Core ML graphs

What a Core ML package is made of, counted in its ML Program: hycompile's package beside `coremltools.convert` on the
exported model, both in float32 for the same deployment target. Nothing runs here: these are counts, not times.

- *ops*: operators, constants not counted
- *moves*: those that compute nothing, the sum of *T* transposes, *R* reshapes (squeeze and expand_dims included) and
  *C* copies (concat, split, slices, tile, gather, cast and the like)
- *MB moved*: what transposes and copies read and write, `2 x bytes` of their results; a reshape of row-major data
  moves nothing
- *ratio*: ours over stock

To make it again, in the repository's root (about a minute a model and side; it continues where it was interrupted):

    .venv/bin/python -m benchmarks.coreml_graph.run

Everything is in [results.json](results.json), with the count of every operator; `--render` makes this page from it.
"""


def render(records: Sequence[Record]) -> str:
    """The page as Markdown."""
    lines = [
        "| model | ops, stock | ours | ratio | moves, stock (T R C) | ours (T R C) | ratio "
        "| MB moved, stock | ours | ratio |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [_row(record) for record in records]
    parts = [HEAD, _summary(records), "\n".join(lines) + "\n"]
    reasons = [
        f"- {record.model}, {side}: `{reason.replace('`', chr(39))}`" for record, side, reason in _refused(records)
    ]
    if reasons:
        parts.append("## Reasons\n\n" + "\n".join(reasons) + "\n")
    pipelines = dict.fromkeys(record.ours_pipeline for record in records if record.ours_pipeline)
    tools = {name: version for record in records for name, version in record.tools.items()}
    versions = ", ".join(f"{name} {tools[name]}" for name in sorted(tools))
    parts.append(f"Pipeline: {', '.join(f'`{text}`' for text in pipelines)}. Made with {versions}.\n")
    return "\n".join(parts)


def _refused(records: Sequence[Record]) -> list[tuple[Record, str, str]]:
    sides = [(record, "stock", record.stock_reason) for record in records]
    sides += [(record, "ours", record.ours_reason) for record in records]
    return [side for side in sides if side[2]]


def _both(records: Sequence[Record]) -> list[tuple[Counts, Counts]]:
    return [(record.stock, record.ours) for record in records if record.stock is not None and record.ours is not None]


def _summary(records: Sequence[Record]) -> str:
    both = _both(records)
    if not both:
        return "No model has both sides yet.\n"
    fewer = sum(ours.operators <= stock.operators for stock, ours in both)
    return (
        f"{len(both)} models with both sides. Operators: ours over stock {_geomean(both, lambda c: c.operators)} in "
        f"geomean, no more than stock in {fewer} of {len(both)}. Transposes, reshapes and copies: "
        f"{_geomean(both, lambda c: c.moves)}. Bytes moved: {_geomean(both, lambda c: c.moved_bytes)}. "
        "A count of zero enters a geomean as one.\n"
    )


def _geomean(both: Sequence[tuple[Counts, Counts]], of: Callable[[Counts], int]) -> str:
    logs = [math.log(max(of(ours), 1) / max(of(stock), 1)) for stock, ours in both]
    return f"{math.exp(sum(logs) / len(logs)):.2f}"


def _row(record: Record) -> str:
    cells = [record.model]
    of: list[tuple[Callable[[Counts], int], Callable[[Counts], str]]] = [
        (lambda c: c.operators, lambda c: str(c.operators)),
        (lambda c: c.moves, lambda c: f"{c.moves} ({c.transposes} {c.reshapes} {c.copies})"),
        (lambda c: c.moved_bytes, lambda c: f"{c.moved_bytes / 1e6:.1f}"),
    ]
    for value, text in of:
        cells += [text(side) if side is not None else "" for side in (record.stock, record.ours)]
        known = record.stock is not None and record.ours is not None and value(record.stock) > 0
        cells.append(f"{value(record.ours) / value(record.stock):.2f}" if known else "")  # type: ignore[arg-type]
    return f"| {' | '.join(cells)} |"
