"""Compare two subjects on one machine: paired, interleaved ratios hold where absolute times do not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from hycompile.measure.sampling import Plan, Samples, Subject, interleave
from hycompile.measure.statistics import Interval, median, median_interval

# Above this share of preempted samples, wall time tells of the other processes as much as of the subjects.
_QUIET = 0.05


@dataclass(frozen=True)
class Ratio:
    """Time of ``first`` over time of ``second``, one ratio per interleaved pair: below 1 means ``first`` is faster.

    Args:
        first, second: what the subjects are called.
        threads: threads either may use. With one, CPU time stands in for latency.
    """

    first: str
    second: str
    first_samples: Samples
    second_samples: Samples
    threads: int

    @property
    def clock(self) -> Literal["wall", "cpu"]:
        """Which time is compared: wall time, or CPU time on a shared machine, where one thread makes that the same.

        Other processes stretch a long run more often than a short one, so wall time there favours the shorter subject.
        """
        samples = (self.first_samples, self.second_samples)
        shared = any(one.preempted > _QUIET * len(one.wall_ms) for one in samples)
        coarse = any(time <= 0 for one in samples for time in one.cpu_ms)
        return "cpu" if self.threads == 1 and shared and not coarse else "wall"

    @property
    def ratios(self) -> tuple[float, ...]:
        """One ratio per pair, by ``clock``."""
        first, second = (getattr(samples, f"{self.clock}_ms") for samples in (self.first_samples, self.second_samples))
        return tuple(mine / theirs for mine, theirs in zip(first, second, strict=True))

    @property
    def ratio(self) -> float:
        """Median of the paired ratios."""
        return median(self.ratios)

    @property
    def interval(self) -> Interval:
        """95 % confidence interval of ``ratio``."""
        return median_interval(self.ratios)

    @property
    def verdict(self) -> str:
        """One sentence; "no difference" when the interval contains 1."""
        clock = "wall time" if self.clock == "wall" else "CPU time, as the machine is shared"
        details = (
            f"ratio {self.ratio:.3g} of {clock}, 95 % interval {self.interval.low:.3g} to {self.interval.high:.3g}"
        )
        if self.interval.contains(1.0):
            return f"no difference between {self.first} and {self.second} ({details}, contains 1)"
        quick, slow = (self.first, self.second) if self.ratio < 1 else (self.second, self.first)
        return f"{quick} is {max(self.ratio, 1 / self.ratio):.3g} times as fast as {slow} ({details})"

    def to_json(self) -> dict[str, Any]:
        """Ratio, interval, verdict and the raw samples as JSON values."""
        return {
            "first": self.first,
            "second": self.second,
            "ratio": self.ratio,
            "interval": list(self.interval),
            "clock": self.clock,
            "threads": self.threads,
            "verdict": self.verdict,
            "first_samples_ms": list(self.first_samples.wall_ms),
            "second_samples_ms": list(self.second_samples.wall_ms),
            "first_cpu_samples_ms": list(self.first_samples.cpu_ms),
            "second_cpu_samples_ms": list(self.second_samples.cpu_ms),
            "preempted": [self.first_samples.preempted, self.second_samples.preempted],
        }


def compare(first: Subject, second: Subject, names: tuple[str, str], plan: Plan | None = None) -> Ratio:
    """Time two callables turn by turn and return the ratio of their times.

    Args:
        first, second: called without arguments, each doing one whole execution.
        names: what to call them in the verdict.
        plan: how long and how often.
    """
    plan = plan or Plan()
    return Ratio(*names, *interleave(first, second, plan), plan.threads)
