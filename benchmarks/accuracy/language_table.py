"""Language models on the page: bits per byte, and what quantisation adds to them."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.accuracy.records import SIMULATION
from benchmarks.accuracy.rows import Row
from benchmarks.accuracy.summary import NOT_MEASURED, Goal

_MOST_MORE = {8: 0.5, 4: 3.0}
# The method the goals are about, by bits of weights: 8da8w and 8da4w as runtimes have them.
_JUDGED = {8: "rows", 4: "rows-32"}
_HEAD = "| network | method | weights | run by | windows | float | quantised | more, % | likeliest token the same, % |"


def language_goals(rows: Sequence[Row]) -> list[Goal]:
    """What weights of 8 and 4 bits may cost; nothing without a language model among the rows."""
    found = [row for row in rows if row.metric == "bits_per_byte" and row.runner == SIMULATION]
    if not found:
        return []
    return [
        Goal(
            f"{found[0].model}, weights of {bits} bits, {_JUDGED[bits]}: bits per byte above float",
            f"<= {most:g} %",
            next(
                (f"{more(row):.2f} %" for row in found if (row.weight_bits, row.method) == (bits, _JUDGED[bits])),
                NOT_MEASURED,
            ),
        )
        for bits, most in _MOST_MORE.items()
    ]


def more(row: Row) -> float:
    """Bits per byte above float, percent of these."""
    return 100 * (row.mean / row.reference - 1)


def language_section(rows: Sequence[Row]) -> str:
    """A table with a line for each method, pair of bits and runner; empty without any."""
    agreement = {_key(row): row.mean for row in rows if row.metric == "agreement"}
    found = sorted(
        (row for row in rows if row.metric == "bits_per_byte"),
        key=lambda row: (row.model, row.runner != SIMULATION, -row.weight_bits, row.mean),
    )
    if not found:
        return ""
    lines = [
        f"| {row.model} | {row.method} | {row.weight_bits} bits | {row.runner} | {row.samples} | {row.reference:.4f} | "
        f"{row.mean:.4f} | {more(row):+.2f} | {agreement[_key(row)]:.1f} |"
        for row in found
    ]
    return "\n".join(["## Language models: bits per byte", "", _HEAD, "|" + "---|" * 9, *lines, ""])


def _key(row: Row) -> tuple[object, ...]:
    return row.testbed, row.model, row.method, row.weight_bits, row.activation_bits, row.runner, row.samples
