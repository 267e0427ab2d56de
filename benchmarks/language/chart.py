"""Decode time against context length, as SVG: a line per model, both axes logarithmic."""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape

from benchmarks.language.records import Record
from hycompile.measure.statistics import median

_COLOURS = ("#30638e", "#66a182", "#d1495b", "#edae49")
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 760, 420, 70, 190, 30, 50
Series = dict[str, dict[int, float]]


def draw(records: Iterable[Record], threads: int) -> str | None:
    """The chart of one thread count: milliseconds per token; None where nothing was timed."""
    series: Series = {}
    for record in records:
        if record.comparison == "context" and record.threads == threads and record.wall_ms:
            series.setdefault(record.model, {})[record.context] = median(record.wall_ms)
    contexts = sorted({context for line in series.values() for context in line})
    if not contexts:
        return None
    times = [time for line in series.values() for time in line.values()]
    low, high = math.log10(min(times)) - 0.1, math.log10(max(times)) + 0.1
    first, last = math.log2(contexts[0]) - 0.2, math.log2(contexts[-1]) + 0.2

    def x(context: int) -> float:
        return round(_LEFT + (math.log2(context) - first) / (last - first) * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(time: float) -> float:
        return round(_HEIGHT - _BOTTOM - (math.log10(time) - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM), 1)

    unit = f"{threads} thread{'s' if threads > 1 else ''}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        f"<title>Milliseconds per decoded token against context, {unit}</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        *(_vertical(x(context), context) for context in contexts),
        *(_horizontal(y(time), time) for time in _ticks(low, high)),
    ]
    for colour, (model, line) in zip(_COLOURS, sorted(series.items()), strict=False):
        points = [(x(context), y(time), context, time) for context, time in sorted(line.items())]
        path = " ".join(f"{across},{down}" for across, down, _, _ in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{across}" cy="{down}" r="4" fill="{colour}">'
            f"<title>{escape(model)} at {context}: {time:.3g} ms</title></circle>"
            for across, down, context, time in points
        ]
        across, down, _, time = points[-1]
        parts.append(f'<text x="{across + 10}" y="{down + 4}" fill="{colour}">{escape(model)}, {time:.3g} ms</text>')
    label = f"tokens before the one decoded; milliseconds per token, {unit}"
    parts.append(f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 8}" text-anchor="middle">{label}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _ticks(low: float, high: float) -> list[float]:
    found = [step * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for step in (1, 2, 5)]
    return [value for value in found if low <= math.log10(value) <= high]


def _vertical(x: float, context: int) -> str:
    return (
        f'<line x1="{x}" x2="{x}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}" stroke="#eee"/>'
        f'<text x="{x}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{context}</text>'
    )


def _horizontal(y: float, time: float) -> str:
    return (
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}" stroke="#eee"/>'
        f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{time:g}</text>'
    )
