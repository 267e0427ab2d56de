"""The timing loop: warm up until stable, then sample wall and CPU time, alone or interleaved with a second subject."""

from __future__ import annotations

import gc
import resource
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from hycompile.measure.statistics import median

_NS_PER_MS = 1e6


@dataclass(frozen=True)
class Plan:
    """How long and how often to measure.

    Args:
        runs: samples wanted per subject.
        min_runs: samples taken even when ``max_seconds`` is over; below six, no 95 % interval exists.
        max_seconds: budget of the sampling of one subject.
        window: warm-up runs compared at a time.
        tolerance: warm-up ends when the medians of two successive windows differ by less than this share.
        max_warm_up_seconds: warm-up ends here at the latest, and the result says it was not stable.
        threads: intra-operator threads. CPU time stands in for latency only with one.
    """

    runs: int = 60
    min_runs: int = 10
    max_seconds: float = 10.0
    window: int = 4
    tolerance: float = 0.05
    max_warm_up_seconds: float = 5.0
    threads: int = 1


@dataclass(frozen=True)
class Samples:
    """Raw samples of one subject, in the order they were taken, in milliseconds.

    ``cpu_ms`` is the CPU time of the whole process, over all its threads. ``preempted`` counts the samples during which
    the kernel took the processor away for another process: their wall time is not the subject's own.
    """

    wall_ms: tuple[float, ...]
    cpu_ms: tuple[float, ...]
    preempted: int
    warm_up_runs: int
    stable: bool


Subject = Callable[[], object]


def sample(subject: Subject, plan: Plan) -> Samples:
    """Warm the subject up and time it ``plan.runs`` times, or until the budget is spent."""
    with _quiet_collector():
        warm_up_runs, stable = _warm_up(subject, plan)
        pairs = list(_timed(subject, plan))
    return _samples(pairs, warm_up_runs, stable)


def interleave(first: Subject, second: Subject, plan: Plan) -> tuple[Samples, Samples]:
    """Time two subjects turn by turn (A B, B A, A B, ...), so that drift of the machine meets both alike."""
    times: tuple[list[_Time], list[_Time]] = ([], [])
    subjects = (first, second)
    with _quiet_collector():
        warm = [_warm_up(subject, plan) for subject in subjects]
        deadline = time.perf_counter() + 2 * plan.max_seconds
        while len(times[0]) < plan.runs and (len(times[0]) < plan.min_runs or time.perf_counter() < deadline):
            # Swapping the order every round cancels whatever one subject leaves in the caches for the other.
            for which in (0, 1) if len(times[0]) % 2 == 0 else (1, 0):
                times[which].append(_once(subjects[which]))
    return _samples(times[0], *warm[0]), _samples(times[1], *warm[1])


class _Time(NamedTuple):
    wall_ms: float
    cpu_ms: float
    preempted: bool


def _once(subject: Subject) -> _Time:
    switches = _involuntary_switches()
    wall, cpu = time.perf_counter_ns(), time.process_time_ns()
    subject()
    wall, cpu = time.perf_counter_ns() - wall, time.process_time_ns() - cpu
    return _Time(wall / _NS_PER_MS, cpu / _NS_PER_MS, _involuntary_switches() > switches)


def _involuntary_switches() -> int:
    """Times the kernel preempted this process; waiting for a device or a lock does not count."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def _timed(subject: Subject, plan: Plan) -> Iterator[_Time]:
    deadline = time.perf_counter() + plan.max_seconds
    taken = 0
    while taken < plan.runs and (taken < plan.min_runs or time.perf_counter() < deadline):
        yield _once(subject)
        taken += 1


def _warm_up(subject: Subject, plan: Plan) -> tuple[int, bool]:
    """Runs used, and whether two successive windows agreed. CPU time is compared: other processes disturb it less."""
    deadline = time.perf_counter() + plan.max_warm_up_seconds
    history: list[float] = []
    while True:
        history.append(_once(subject).cpu_ms)
        if is_stable(history, plan.window, plan.tolerance):
            return len(history), True
        if len(history) >= plan.window and time.perf_counter() > deadline:
            return len(history), False


def is_stable(history: Sequence[float], window: int, tolerance: float) -> bool:
    """Whether the medians of the last two windows of ``history`` differ by less than ``tolerance`` of the earlier."""
    if len(history) < 2 * window:
        return False
    earlier, later = median(history[-2 * window : -window]), median(history[-window:])
    return abs(later - earlier) <= tolerance * earlier


@contextmanager
def _quiet_collector() -> Generator[None]:
    """No garbage collection between two clock readings: it would count as latency of whoever runs then."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _samples(times: Sequence[_Time], warm_up_runs: int, stable: bool) -> Samples:
    return Samples(
        tuple(once.wall_ms for once in times),
        tuple(once.cpu_ms for once in times),
        sum(once.preempted for once in times),
        warm_up_runs,
        stable,
    )
