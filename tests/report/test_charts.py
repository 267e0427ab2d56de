"""Positions of the latency chart."""

from __future__ import annotations

import pytest

from hycompile.report.charts import strip_plot


def test_equal_factors_are_equal_distances() -> None:
    plot = strip_plot({"a": [1.0] * 8, "b": [10.0] * 8, "c": [100.0] * 8})
    assert plot is not None
    first, second, third = (strip.median for strip in plot.strips)
    assert second - first == pytest.approx(third - second, abs=0.02)
    assert 0 < first < third < 100


def test_interval_encloses_the_median_and_everything_is_on_the_axis() -> None:
    plot = strip_plot({"a": [20.0 + index for index in range(30)]})
    assert plot is not None
    strip = plot.strips[0]
    assert strip.low <= strip.median <= strip.high
    assert all(0 <= point <= 100 for point in strip.points)
    assert [tick.label for tick in plot.ticks] == ["20", "30", "40", "50"]


@pytest.mark.parametrize("values", [[3.0], [3.0, 3.0], [3.3, 3.31], [0.001, 900.0]])
def test_there_are_always_a_few_ticks(values: list[float]) -> None:
    plot = strip_plot({"a": values})
    assert plot is not None
    assert 2 <= len(plot.ticks) <= 20
    assert all(0 <= tick.at <= 100 for tick in plot.ticks)


def test_nothing_measured_is_no_chart() -> None:
    assert strip_plot({}) is None
    assert strip_plot({"a": []}) is None
