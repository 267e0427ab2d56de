"""The timing loop on subjects whose times are known."""

from __future__ import annotations

import gc
import time

from hycompile.measure.sampling import Plan, interleave, is_stable, sample

QUICK = Plan(runs=12, min_runs=6, max_seconds=2.0, max_warm_up_seconds=0.5)


def spin(ms: float) -> None:
    """Use the CPU for ``ms`` milliseconds of CPU time."""
    end = time.process_time() + ms / 1e3
    while time.process_time() < end:
        pass


def test_samples_are_raw_and_counted() -> None:
    calls: list[int] = []

    def subject() -> None:
        calls.append(1)
        spin(2)

    samples = sample(subject, QUICK)
    assert len(samples.wall_ms) == len(samples.cpu_ms) == 12
    assert len(calls) == 12 + samples.warm_up_runs
    assert min(samples.cpu_ms) >= 2.0
    assert all(wall >= 0.99 * cpu for wall, cpu in zip(samples.wall_ms, samples.cpu_ms, strict=True))


def test_waiting_costs_wall_time_only() -> None:
    samples = sample(lambda: time.sleep(0.02), Plan(runs=6, max_warm_up_seconds=0.2))
    assert min(samples.wall_ms) >= 19.0
    assert max(samples.cpu_ms) < 15.0


def test_the_budget_ends_sampling_but_not_before_the_minimum() -> None:
    samples = sample(lambda: time.sleep(0.01), Plan(runs=1000, min_runs=7, max_seconds=0.0, max_warm_up_seconds=0.0))
    assert len(samples.wall_ms) == 7


def test_warm_up_ends_when_times_settle() -> None:
    assert not is_stable([9, 9, 1, 1], window=4, tolerance=0.05)
    assert not is_stable([9, 8, 7, 6, 1, 1, 1, 1], window=4, tolerance=0.05)
    assert is_stable([9, 8, 7, 6, 1, 1, 1, 1, 1.01, 1, 1, 1], window=4, tolerance=0.05)


def test_an_unstable_subject_is_called_so() -> None:
    state = {"ms": 0.5}

    def slower_every_time() -> None:
        state["ms"] *= 1.3
        spin(state["ms"])

    samples = sample(slower_every_time, Plan(runs=6, max_warm_up_seconds=0.05))
    assert not samples.stable


def test_interleaving_alternates_the_order() -> None:
    order: list[str] = []
    plan = Plan(runs=4, min_runs=4, max_seconds=1.0, max_warm_up_seconds=0.0, window=1)
    first, second = interleave(lambda: order.append("a"), lambda: order.append("b"), plan)
    assert "".join(order).endswith("abbaabba")
    assert len(first.wall_ms) == len(second.wall_ms) == 4


def test_garbage_collection_is_put_back() -> None:
    seen: list[bool] = []
    sample(lambda: seen.append(gc.isenabled()), QUICK)
    assert not any(seen)
    assert gc.isenabled()
