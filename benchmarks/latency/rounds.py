"""The timing loop: in every round each contender runs a small batch, in an order drawn anew."""

from __future__ import annotations

import gc
import math
import random
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hycompile.measure.sampling import is_stable
from hycompile.measure.statistics import Interval, median, median_interval

Subject = Callable[[], object]

_IDLE_WINDOW_S = 0.002
_IDLE_SHARE = 0.1
_WARM_UP_WINDOW, _WARM_UP_TOLERANCE = 3, 0.05


@dataclass(frozen=True)
class Plan:
    """How long and how often to measure.

    Args:
        rounds: samples per contender; below six, no 95 % interval exists.
        batch_ms: executions are repeated until a batch is expected to last this long.
        min_executions, max_executions: bounds of a batch.
        settle_s: longest wait before a batch for the threads of whoever ran before to stop spinning.
        max_warm_up_s: of one contender; it ends as soon as times are stable.
        seed: of the orders.
    """

    rounds: int = 24
    batch_ms: float = 60.0
    min_executions: int = 2
    max_executions: int = 20
    settle_s: float = 0.5
    max_warm_up_s: float = 5.0
    seed: int = 0


@dataclass(frozen=True)
class Clock:
    """Seconds of wall time and of the process's CPU time over all its threads, a sleep, and times preempted so far."""

    wall: Callable[[], float] = time.perf_counter
    cpu: Callable[[], float] = time.process_time
    sleep: Callable[[float], None] = time.sleep
    preempted: Callable[[], int] = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


class Samples(NamedTuple):
    """Milliseconds per execution, round by round; ``preempted`` counts rounds that another process interrupted."""

    executions: int
    wall_ms: tuple[float, ...]
    cpu_ms: tuple[float, ...]
    preempted: int


class Ratio(NamedTuple):
    """Median of paired ratios and its 95 % confidence interval."""

    value: float
    interval: Interval


def paired_ratio(mine: Sequence[float], base: Sequence[float]) -> Ratio:
    """One ratio per round, both halves from the same round."""
    ratios = [first / second for first, second in zip(mine, base, strict=True)]
    return Ratio(median(ratios), median_interval(ratios))


class _Batch(NamedTuple):
    wall_ms: float
    cpu_ms: float
    preempted: bool


def measure(
    subjects: Mapping[str, Subject], plan: Plan, at: Callable[[str], None], clock: Clock | None = None
) -> dict[str, Samples]:
    """Time every subject in every round.

    Args:
        subjects: by name, each doing one whole execution.
        plan: how long and how often.
        at: told whose turn it is, outside of the clocks.
        clock: the real one unless replaced by a test.
    """
    clock = clock or Clock()
    executions: dict[str, int] = {}
    batches: dict[str, list[_Batch]] = {name: [] for name in subjects}
    order, generator = list(subjects), random.Random(plan.seed)
    collecting = gc.isenabled()
    gc.collect()
    # A collection between two readings would count as time of whoever runs then.
    gc.disable()
    try:
        for name, subject in subjects.items():
            at(name)
            executions[name] = _batch_size(_warm_up(subject, plan, clock), plan)
        for _ in range(plan.rounds):
            generator.shuffle(order)
            for name in order:
                at(name)
                settle(plan.settle_s, clock)
                batches[name].append(_batch(subjects[name], executions[name], clock))
    finally:
        if collecting:
            gc.enable()
    return {name: _samples(executions[name], batches[name]) for name in subjects}


def settle(limit_s: float, clock: Clock) -> None:
    """Wait until this process is idle: a pool that spins after its work would be charged to whoever comes next."""
    deadline = clock.wall() + limit_s
    while clock.wall() < deadline:
        before = clock.cpu()
        clock.sleep(_IDLE_WINDOW_S)
        if clock.cpu() - before < _IDLE_SHARE * _IDLE_WINDOW_S:
            return


def _batch(subject: Subject, executions: int, clock: Clock) -> _Batch:
    # Not timed: it brings weights back into the caches and wakes the threads.
    subject()
    switches, wall, cpu = clock.preempted(), clock.wall(), clock.cpu()
    for _ in range(executions):
        subject()
    wall, cpu = clock.wall() - wall, clock.cpu() - cpu
    return _Batch(1e3 * wall / executions, 1e3 * cpu / executions, clock.preempted() > switches)


def _warm_up(subject: Subject, plan: Plan, clock: Clock) -> float:
    """Milliseconds of wall time of an execution once two successive windows agree, or the budget is spent."""
    deadline, history = clock.wall() + plan.max_warm_up_s, list[float]()
    while len(history) < _WARM_UP_WINDOW or (
        clock.wall() < deadline and not is_stable(history, _WARM_UP_WINDOW, _WARM_UP_TOLERANCE)
    ):
        start = clock.wall()
        subject()
        history.append(1e3 * (clock.wall() - start))
    return median(history[-_WARM_UP_WINDOW:])


def _batch_size(execution_ms: float, plan: Plan) -> int:
    wanted = math.ceil(plan.batch_ms / max(execution_ms, 1e-3))
    return min(max(wanted, plan.min_executions), plan.max_executions)


def _samples(executions: int, batches: Sequence[_Batch]) -> Samples:
    wall, cpu = tuple(batch.wall_ms for batch in batches), tuple(batch.cpu_ms for batch in batches)
    return Samples(executions, wall, cpu, sum(batch.preempted for batch in batches))
