"""Ratios of interleaved pairs: known answers, the choice of clock, and the verdict."""

from __future__ import annotations

import json
import time

import pytest

from hycompile.measure.compare import Ratio, compare
from hycompile.measure.sampling import Plan, Samples


def spin(ms: float) -> None:
    """Use the CPU for ``ms`` milliseconds of CPU time."""
    end = time.process_time() + ms / 1e3
    while time.process_time() < end:
        pass


def samples(wall: list[float], cpu: list[float] | None = None, preempted: int = 0) -> Samples:
    return Samples(tuple(wall), tuple(cpu or wall), preempted, 4, True)


NOISE = [1.0, 1.02, 0.99, 1.01, 0.98, 1.03, 1.0, 1.01]


def test_drift_that_meets_both_alike_cancels() -> None:
    drift = [1, 2, 4, 8, 16, 8, 4, 2]
    ratio = Ratio("a", "b", samples([3.0 * d for d in drift]), samples([2.0 * d for d in drift]), threads=2)
    assert ratio.ratio == pytest.approx(1.5)
    assert ratio.interval == pytest.approx((1.5, 1.5))
    assert ratio.verdict.startswith("b is 1.5 times as fast as a (ratio 1.5 of wall time")


def test_an_interval_that_contains_one_is_no_difference() -> None:
    ratio = Ratio("a", "b", samples(NOISE), samples(list(reversed(NOISE))), threads=1)
    assert ratio.interval.contains(1.0)
    assert ratio.verdict.startswith("no difference between a and b")


@pytest.mark.parametrize(("threads", "preempted", "clock"), [(1, 0, "wall"), (1, 4, "cpu"), (2, 4, "wall")])
def test_cpu_time_is_compared_with_one_thread_on_a_shared_machine(threads: int, preempted: int, clock: str) -> None:
    stretched = samples([10.0] * 8, [2.0] * 8, preempted)
    ratio = Ratio("a", "b", stretched, samples([1.0] * 8), threads)
    assert ratio.clock == clock
    assert ratio.ratio == pytest.approx(2.0 if clock == "cpu" else 10.0)


def test_a_clock_that_stands_still_is_not_compared() -> None:
    ratio = Ratio("a", "b", samples([10.0] * 8, [0.0] * 8, preempted=8), samples([5.0] * 8), threads=1)
    assert (ratio.clock, ratio.ratio) == ("wall", 2.0)


def test_measured_ratio_of_two_known_subjects() -> None:
    # Both spin on CPU time, which other processes cannot stretch: three times the work is three times the time.
    ratio = compare(lambda: spin(3), lambda: spin(1), ("three", "one"), Plan(runs=20, max_warm_up_seconds=0.2))
    cpu = sorted(a / b for a, b in zip(ratio.first_samples.cpu_ms, ratio.second_samples.cpu_ms, strict=True))
    assert cpu[10] == pytest.approx(3.0, rel=0.15)
    assert "one is" in ratio.verdict
    document = json.loads(json.dumps(ratio.to_json()))
    assert len(document["first_samples_ms"]) == len(document["second_samples_ms"]) == 20
