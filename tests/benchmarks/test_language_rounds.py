"""The timing loop of the language benchmark, on a machine whose clock the test owns."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from benchmarks.language.rounds import Plan, measure
from benchmarks.language.session import Timed
from benchmarks.latency.rounds import paired_ratio


class Machine:
    """It grows slower with every execution, and counts them."""

    def __init__(self, drift: float = 1.0) -> None:
        self.slowness, self.drift, self.slept = 1.0, drift, 0.0
        self.ran: dict[str, int] = {}

    def step(self, name: str, seconds: float) -> Callable[[], Timed]:
        def run() -> Timed:
            self.ran[name] = self.ran.get(name, 0) + 1
            self.slowness *= self.drift
            return Timed(np.zeros(1, np.float32), seconds * self.slowness, 3 * seconds * self.slowness)

        return run

    def sleep(self, seconds: float) -> None:
        self.slept += seconds


def test_ratios_hold_on_a_machine_that_drifts() -> None:
    machine, turns = Machine(1.01), list[str]()
    steps = {"slow": machine.step("slow", 0.03), "fast": machine.step("fast", 0.01)}
    found = measure(steps, Plan(rounds=40), turns.append, machine.sleep)
    assert found["slow"].wall_ms[-1] > 2 * found["slow"].wall_ms[0]
    assert paired_ratio(found["fast"].wall_ms, found["slow"].wall_ms).value == pytest.approx(1 / 3, rel=0.1)
    assert found["fast"].cpu_ms == pytest.approx([3 * wall for wall in found["fast"].wall_ms])
    assert turns[:2] == ["slow", "fast"]
    assert sorted(turns[2:4]) == ["fast", "slow"]


def test_batches_fill_the_time_they_are_given() -> None:
    machine, plan = Machine(), Plan(rounds=6, batch_s=0.2, max_executions=8, settle_s=0.5)
    steps = {
        name: machine.step(name, seconds)
        for name, seconds in (("endless", 2.0), ("long", 0.3), ("middle", 0.06), ("short", 1e-3))
    }
    found = measure(steps, plan, lambda name: None, machine.sleep)
    assert {name: samples.executions for name, samples in found.items()} == {
        "endless": 1,
        "long": 1,
        "middle": 4,
        "short": 8,
    }
    # Two to see how long it takes, one if that is long; then batches, each behind one that does not count unless it
    # fills the time alone.
    assert machine.ran == {"endless": 1 + 6, "long": 2 + 6, "middle": 2 + 6 * 5, "short": plan.most_executions}
    assert machine.slept == pytest.approx(0.5 * 6 * 4)
