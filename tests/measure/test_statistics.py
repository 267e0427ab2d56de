"""Order statistics against known answers, and the coverage of the interval by simulation."""

from __future__ import annotations

import random

import pytest

from hycompile.measure.statistics import Interval, median, median_interval, quantile, trimmed_mean


def test_quantile_interpolates() -> None:
    assert quantile([4, 1, 3, 2], 0.5) == 2.5
    assert quantile([1, 2, 3, 4, 5], 0.9) == pytest.approx(4.6)
    assert quantile([7], 0.99) == 7


def test_median_of_odd_and_even() -> None:
    assert median([9, 1, 5]) == 5
    assert median([1, 2, 3, 10]) == 2.5


def test_trimmed_mean_drops_the_slowest() -> None:
    assert trimmed_mean([1, 2, 3, 4, 1000]) == 2.5
    assert trimmed_mean([5]) == 5


@pytest.mark.parametrize(
    ("n", "rank"),
    # Ranks of the 95 % interval of the median as tabulated, for example in Conover 1999.
    [(6, 1), (10, 2), (20, 6), (30, 10), (60, 22)],
)
def test_interval_takes_the_tabulated_order_statistics(n: int, rank: int) -> None:
    assert median_interval(range(1, n + 1)) == Interval(rank, n + 1 - rank)


def test_too_few_samples_give_the_whole_range() -> None:
    assert median_interval([3, 1, 2]) == Interval(1, 3)
    assert median_interval([4]) == Interval(4, 4)


def test_interval_covers_the_median_as_often_as_it_says() -> None:
    rng = random.Random(0)
    trials, n = 2000, 30
    # A skewed distribution, as latencies are; its median is 1 by construction.
    hits = sum(median_interval([rng.lognormvariate(0, 0.5) for _ in range(n)]).contains(1.0) for _ in range(trials))
    # The exact coverage for n = 30 and ranks 10 and 21 is 0.957; four standard errors of 2000 trials are 0.018.
    assert hits / trials == pytest.approx(0.957, abs=0.018)
