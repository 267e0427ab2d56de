"""The picture of what each layer does to the outputs: positions, which the template draws as SVG."""

from __future__ import annotations

from dataclasses import dataclass

from hycompile.report.charts import Tick
from hycompile.reports import SensitivityReport

_ROW, _TOP, _FOOT = 18, 22, 24
_LEFT, _WIDTH = 220, 760
_WORST = 3
_LONGEST = 32
# dB; what is more stands for no noise at all.
_NONE = 200


@dataclass(frozen=True)
class Bar:
    """One layer: its name, the ends of its two marks, and what the numbers are.

    ``kind`` is worst, kept or plain.
    """

    name: str
    title: str
    kind: str
    y: int
    alone: float
    without: float


@dataclass(frozen=True)
class Picture:
    """Positions in the units of the drawing; ``together`` is where the line of the whole model is.

    ``anchor`` is the end of the line's label that stands there.
    """

    width: int
    height: int
    left: int
    top: int
    bottom: int
    together: float
    anchor: str
    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]


def picture(found: SensitivityReport | None) -> Picture | None:
    """A row for every layer on a shared axis of noise, in dB below the signal; None where nothing was measured.

    Where nothing differs, ratios are 300 dB: less noise than the axis shows.
    """
    if found is None or not found.layers:
        return None
    marks = [-value for value in (found.together, *(value for layer in found.layers for value in layer[2:4]))]
    high = max(marks)
    low = min([value for value in marks if value > -_NONE] or [high - 1])
    margin = max(1.0, 0.05 * (high - low))
    low, high = min(low, high) - margin, high + margin

    def place(ratio: float) -> float:
        share = (max(-ratio, low) - low) / (high - low)
        return round(_LEFT + (_WIDTH - _LEFT) * share, 1)

    rounded = sorted(layer[2] for layer in found.layers if not layer[4])
    limit = rounded[: min(_WORST, len(rounded))][-1] if rounded else float("-inf")
    several = len({layer[0] for layer in found.layers}) > 1
    bars: list[Bar] = []
    for number, (method, node, alone, without, kept) in enumerate(found.layers):
        name = f"{method}: {node}" if several else node
        short = name if len(name) <= _LONGEST else f"...{name[3 - _LONGEST :]}"
        kind = "kept" if kept else "worst" if alone <= limit else "plain"
        gain = without - found.together
        title = f"{name}: {alone:.1f} dB if it alone is rounded; {gain:+.1f} dB for the model if it alone is not"
        title += f"; kept in {kept}" if kept else ""
        bars.append(Bar(short, title, kind, _TOP + number * _ROW + _ROW // 2, place(alone), place(without)))
    bottom = _TOP + len(bars) * _ROW
    ticks = tuple(Tick(place(-value), f"{value:g} dB") for value in _round_values(low, high))
    line = place(found.together)
    anchor = "end" if line > (_LEFT + _WIDTH) / 2 else "start"
    return Picture(_WIDTH, bottom + _FOOT, _LEFT, _TOP, bottom, line, anchor, tuple(bars), ticks)


def _round_values(low: float, high: float) -> list[float]:
    """Multiples of 1, 2, 5, 10, 20 or 50 dB within the range, at most eight."""
    for step in (1, 2, 5, 10, 20, 50, 100):
        first = -(-low // step) * step
        values = [first + index * step for index in range(int((high - first) // step) + 1)]
        if len(values) <= 8:
            return values
    return []
