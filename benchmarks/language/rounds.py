"""The timing loop: in every round each contender runs a small batch, in an order drawn anew.

As in ``benchmarks.latency.rounds``, but each execution reads its own clocks, for one contender computes in another
process.
"""

from __future__ import annotations

import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from benchmarks.language.session import Timed

Step = Callable[[], Timed]
# An execution of so many batches' time tells at once how long it takes: no thread wakes for that long.
_LONG = 5


@dataclass(frozen=True)
class Plan:
    """How long and how often to measure.

    Args:
        rounds: samples per contender; below six, no 95 % interval exists.
        batch_s: executions are repeated until a batch is expected to last this long.
        max_executions: of a batch.
        settle_s: pause before a batch, in which the threads of whoever ran before stop spinning.
        seed: of the orders.
    """

    rounds: int = 7
    batch_s: float = 0.2
    max_executions: int = 8
    settle_s: float = 0.03
    seed: int = 0

    @property
    def most_executions(self) -> int:
        """The most that one contender is run."""
        return 2 + self.rounds * (1 + self.max_executions)


class Samples(NamedTuple):
    """Milliseconds per execution, round by round, and how many executions a sample is the mean of."""

    executions: int
    wall_ms: tuple[float, ...]
    cpu_ms: tuple[float, ...]


def measure(
    steps: Mapping[str, Step], plan: Plan, at: Callable[[str], None], sleep: Callable[[float], None] = time.sleep
) -> dict[str, Samples]:
    """Time every contender in every round.

    A batch begins with an execution that does not count, which brings weights back into the caches and wakes threads;
    one that lasts longer than a batch should needs none.

    Args:
        steps: by name, each doing one execution.
        plan: how long and how often.
        at: told whose turn it is.
        sleep: the real one unless replaced by a test.
    """
    expected, samples = dict[str, float](), {name: list[Timed]() for name in steps}
    executions = dict[str, int]()
    order, generator = list(steps), random.Random(plan.seed)
    collecting = gc.isenabled()
    gc.collect()
    # A collection between two readings would count as time of whoever runs then.
    gc.disable()
    try:
        for name, step in steps.items():
            at(name)
            first = step().seconds
            expected[name] = first if first > _LONG * plan.batch_s else step().seconds
            executions[name] = min(math.ceil(plan.batch_s / max(expected[name], 1e-6)), plan.max_executions)
        for _ in range(plan.rounds):
            generator.shuffle(order)
            for name in order:
                at(name)
                sleep(plan.settle_s)
                if expected[name] < plan.batch_s:
                    steps[name]()
                samples[name].append(_mean([steps[name]() for _ in range(executions[name])]))
    finally:
        if collecting:
            gc.enable()
    return {name: _samples(executions[name], samples[name]) for name in steps}


def _mean(batch: list[Timed]) -> Timed:
    seconds = statistics.fmean(one.seconds for one in batch)
    return Timed(batch[-1].logits, seconds, statistics.fmean(one.cpu_seconds for one in batch))


def _samples(executions: int, batches: list[Timed]) -> Samples:
    wall = tuple(1e3 * batch.seconds for batch in batches)
    return Samples(executions, wall, tuple(1e3 * batch.cpu_seconds for batch in batches))
