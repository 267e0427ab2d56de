"""What quantisation costs, as SVG: a line per network, a dot per method, points lost to the right."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape

from benchmarks.accuracy.methods import PARTS
from benchmarks.accuracy.summary import Table, methods_of

_COLOURS = (
    "#9a9a9a",
    "#30638e",
    "#edae49",
    "#66a182",
    "#7768ae",
    "#00798c",
    "#8f2d56",
    "#d1495b",
    "#111111",
    "#b5651d",
)
_LEFT, _RIGHT, _WIDTH, _LINE, _TOP = 260, 30, 960, 20, 70
_TICKS = (-1.0, 0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
# Below this many points the axis is even, above it logarithmic.
_EVEN = 0.5


def draw(found: Mapping[tuple[str, str, str], Table], bits: str) -> str:
    """The chart of one pair of bits; its test beds below one another."""
    chosen = [(f"{bed} {metric}", table) for (bed, other, metric), table in found.items() if other == bits]
    lines = [(f"{title}: {model}", row) for title, table in chosen for model, row in table.items()]
    found_in = (method for _, table in chosen for method in methods_of(table))
    methods = [method for method in dict.fromkeys(found_in) if method not in PARTS]
    lost = [line[method].loss for _, line in lines for method in methods if method in line]
    low, high = _place(min(-0.25, *lost)), _place(max(1.0, *lost))
    top = _TOP + 20 * ((len(methods) - 1) // 5)
    height = top + _LINE * len(lines) + 40

    def x(points: float) -> float:
        return round(_LEFT + (_place(points) - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT), 1)

    colours = {method: _COLOURS[index % len(_COLOURS)] for index, method in enumerate(methods)}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" '
        'font-size="12">',
        f"<title>Points lost against float, {bits}</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        *(_legend(index, method, colours[method]) for index, method in enumerate(methods)),
        *(_tick(x(value), value, top, height) for value in _TICKS if low <= _place(value) <= high),
    ]
    for index, (title, line) in enumerate(lines):
        y = top + _LINE * index + _LINE // 2
        parts.append(f'<text x="{_LEFT - 10}" y="{y + 4}" text-anchor="end">{escape(title)}</text>')
        parts += [
            f'<circle cx="{x(line[method].loss)}" cy="{y}" r="5" fill="{colours[method]}" stroke="white">'
            f"<title>{escape(method)} {line[method].loss:.2f}</title></circle>"
            for method in methods
            if method in line
        ]
    label = f"points lost against float, {bits}; left is better"
    parts.append(f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{height - 6}" text-anchor="middle">{label}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _place(points: float) -> float:
    return math.asinh(points / _EVEN)


def _legend(index: int, method: str, colour: str) -> str:
    x, y = 20 + 185 * (index % 5), 18 + 20 * (index // 5)
    return f'<circle cx="{x}" cy="{y - 4}" r="5" fill="{colour}"/><text x="{x + 10}" y="{y}">{escape(method)}</text>'


def _tick(x: float, value: float, top: int, height: int) -> str:
    stroke = "#555" if value == 0 else "#ddd"
    return (
        f'<line x1="{x}" x2="{x}" y1="{top - 6}" y2="{height - 34}" stroke="{stroke}"/>'
        f'<text x="{x}" y="{height - 22}" text-anchor="middle">{value:g}</text>'
    )
