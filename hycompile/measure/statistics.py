"""Order statistics of latency samples: quantiles, and distribution-free confidence intervals of the median."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class Interval(NamedTuple):
    """A confidence interval, both ends included."""

    low: float
    high: float

    def contains(self, value: float) -> bool:
        """Whether ``value`` lies inside, ends included."""
        return self.low <= value <= self.high


def quantile(samples: Sequence[float], fraction: float) -> float:
    """The ``fraction`` quantile (0 to 1), interpolated linearly between neighbouring order statistics.

    ``quantile([1, 2, 3, 4], 0.5)`` is 2.5.
    """
    ordered = sorted(samples)
    position = fraction * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def median(samples: Sequence[float]) -> float:
    """The middle sample, or the mean of the two middle ones."""
    return quantile(samples, 0.5)


def trimmed_mean(samples: Sequence[float], keep: float = 0.8) -> float:
    """Mean of the lowest ``keep`` share of the samples: slow outliers come from the machine, not from the program."""
    ordered = sorted(samples)
    kept = ordered[: max(1, math.floor(len(ordered) * keep))]
    return math.fsum(kept) / len(kept)


def median_interval(samples: Sequence[float], confidence: float = 0.95) -> Interval:
    """Interval of the median from order statistics; it assumes independent samples and no distribution.

    The number of samples below the median is Binomial(n, 1/2), so the l-th smallest and l-th largest samples enclose
    the median with probability 1 - 2 P(Binomial(n, 1/2) < l); the largest l that still reaches ``confidence`` is taken.
    With fewer than six samples no l reaches 0.95, and the whole range is returned.
    Source: Conover 1999, Practical Nonparametric Statistics, section 3.2.
    """
    ordered = sorted(samples)
    n = len(ordered)
    tail, rank = 0.0, 0
    for successes in range(n // 2):
        tail += math.comb(n, successes) / 2.0**n
        if 1.0 - 2.0 * tail < confidence:
            break
        rank = successes
    return Interval(ordered[rank], ordered[n - 1 - rank])
