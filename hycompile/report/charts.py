"""Positions for the pictures of a report; the template draws them as SVG and CSS."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hycompile.measure.statistics import Interval, median, median_interval


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: its position in percent of the width, and its label."""

    at: float
    label: str


@dataclass(frozen=True)
class Strip:
    """The samples of one subject on a shared axis; positions in percent of the width."""

    name: str
    points: tuple[float, ...]
    median: float
    low: float
    high: float
    median_ms: float
    interval_ms: Interval


@dataclass(frozen=True)
class StripPlot:
    """Latency distributions one below the other on a logarithmic axis in milliseconds."""

    strips: tuple[Strip, ...]
    ticks: tuple[Tick, ...]


def strip_plot(samples_ms: dict[str, Sequence[float]]) -> StripPlot | None:
    """A strip per subject, None without samples. The axis is logarithmic: subjects differ by factors, not steps."""
    positive = [value for samples in samples_ms.values() for value in samples if value > 0]
    if not positive:
        return None
    low, high = math.log10(min(positive)), math.log10(max(positive))
    margin = max(0.02, 0.05 * (high - low))
    low, high = low - margin, high + margin

    def place(value: float) -> float:
        return round(100 * (math.log10(max(value, 1e-9)) - low) / (high - low), 2)

    strips = [_strip(name, samples, place) for name, samples in samples_ms.items() if samples]
    ticks = [Tick(place(value), f"{value:.3g}") for value in _nice_values(10**low, 10**high)]
    return StripPlot(tuple(strips), tuple(ticks))


def _strip(name: str, samples: Sequence[float], place: Callable[[float], float]) -> Strip:
    interval = median_interval(samples)
    middle = median(samples)
    points = tuple(place(value) for value in samples)
    return Strip(name, points, place(middle), place(interval.low), place(interval.high), middle, interval)


def _nice_values(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten inside the range; finer steps where that leaves fewer than three."""
    for steps in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9), tuple(n / 10 for n in range(10, 100))):
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        values = [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]
        if len(values) >= 3:
            return values[:: max(1, len(values) // 8)]
    return [low, high]
