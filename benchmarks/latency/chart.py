"""Who wins where, as SVG: a line per model, a dot per contender on a logarithmic axis, the fastest one named."""

from __future__ import annotations

import math
from html import escape

from benchmarks.latency.records import CONTENDERS
from benchmarks.latency.summary import Models, best, ratio_of

_COLOURS = {
    "hycompile-executorch": "#d1495b",
    "hycompile-onnx": "#edae49",
    "hycompile-tvm": "#8f2d56",
    "executorch": "#30638e",
    "onnxruntime": "#111111",
    "openvino": "#00798c",
    "litert": "#66a182",
    "torch-compile": "#7768ae",
    "eager": "#9a9a9a",
}
_LEFT, _RIGHT, _WIDTH, _LINE, _TOP = 200, 150, 960, 22, 70
_TICKS = tuple(2.0**power for power in range(-4, 8))


def draw(models: Models, threads: int) -> str | None:
    """The chart of one thread count; None where nothing was timed.

    A dot's place is its wall time over ONNX Runtime's in the same rounds; dots left of 1 are faster than it.
    """
    rows = {model: {name: ratio_of(row.get(name), "wall") for name in CONTENDERS} for model, row in models.items()}
    values = [ratio for row in rows.values() for ratio in row.values() if ratio]
    if not values:
        return None
    low, high = math.log2(min(0.5, *values)) - 0.1, math.log2(max(2.0, *values)) + 0.1
    height = _TOP + _LINE * len(rows) + 40

    def x(ratio: float) -> float:
        return round(_LEFT + (math.log2(ratio) - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT), 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" '
        'font-size="12">',
        f"<title>Wall time over ONNX Runtime's, {_plural(threads)}: who wins where</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        *_legend(),
        *(_tick(x(value), value, height) for value in _TICKS if low <= math.log2(value) <= high),
    ]
    for index, (model, row) in enumerate(rows.items()):
        y = _TOP + _LINE * index + _LINE // 2
        parts.append(f'<text x="{_LEFT - 10}" y="{y + 4}" text-anchor="end">{escape(model)}</text>')
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}" stroke="#eee"/>')
        winner = best(models[model], CONTENDERS)
        parts += [_dot(x(ratio), y, name, ratio, winner is not None and name == winner[0])
                  for name, ratio in row.items() if ratio]  # fmt: skip
        if winner is not None:
            name = winner[0]
            parts.append(f'<text x="{_WIDTH - _RIGHT + 10}" y="{y + 4}" fill="{_COLOURS[name]}">{name}</text>')
    label = f"wall time over ONNX Runtime's, {_plural(threads)}; left is faster"
    parts.append(f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{height - 6}" text-anchor="middle">{label}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _plural(threads: int) -> str:
    return f"{threads} thread{'s' if threads > 1 else ''}"


def _legend() -> list[str]:
    parts: list[str] = []
    for index, name in enumerate(CONTENDERS):
        x, y = 20 + 180 * (index % 5), 18 + 20 * (index // 5)
        parts.append(f'<circle cx="{x}" cy="{y - 4}" r="5" fill="{_COLOURS[name]}"/>')
        parts.append(f'<text x="{x + 10}" y="{y}">{name}</text>')
    return parts


def _tick(x: float, value: float, height: int) -> str:
    stroke = "#555" if value == 1 else "#ddd"
    return (
        f'<line x1="{x}" x2="{x}" y1="{_TOP - 6}" y2="{height - 34}" stroke="{stroke}"/>'
        f'<text x="{x}" y="{height - 22}" text-anchor="middle">{value:g}</text>'
    )


def _dot(x: float, y: int, name: str, ratio: float, wins: bool) -> str:
    radius, edge = (7, "black") if wins else (5, "white")
    about = f"<title>{name} {ratio:.3g}</title>"
    return f'<circle cx="{x}" cy="{y}" r="{radius}" fill="{_COLOURS[name]}" stroke="{edge}">{about}</circle>'
