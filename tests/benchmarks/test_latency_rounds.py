"""The timing loop of the latency benchmark, on a machine whose clock the test owns."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks.latency.records import REFERENCE
from benchmarks.latency.rounds import Clock, Plan, Samples, measure, paired_ratio
from benchmarks.latency.time_worker import judge
from hycompile.measure.conditions import read_conditions

CONDITIONS = read_conditions(1, 0.0, {})


class Machine:
    """A clock that only subjects and sleeping move, on a machine that grows slower with every execution."""

    def __init__(self, drift: float) -> None:
        self.now, self.cpu, self.slowness, self.spinning, self.drift = 0.0, 0.0, 1.0, 0.0, drift
        self.clock = Clock(lambda: self.now, lambda: self.cpu, self.sleep, lambda: 0)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        spun = min(self.spinning, seconds)
        self.cpu, self.spinning = self.cpu + spun, self.spinning - spun

    def subject(self, wall: float, cpu: float, spin: float = 0.0) -> Callable[[], None]:
        """One execution, whose threads spin for ``spin`` seconds once it is over."""

        def run() -> None:
            spun = min(self.spinning, wall)
            self.now += wall * self.slowness
            self.cpu += cpu * self.slowness + spun
            self.slowness *= self.drift
            self.spinning = spin

        return run


def test_ratios_hold_on_a_machine_that_drifts() -> None:
    machine, turns = Machine(drift=1.01), list[str]()
    subjects = {"slow": machine.subject(0.030, 0.060), "fast": machine.subject(0.010, 0.015)}
    found = measure(subjects, Plan(rounds=40, max_warm_up_s=0.1), turns.append, machine.clock)
    assert found["slow"].wall_ms[-1] > 2 * found["slow"].wall_ms[0]
    wall = paired_ratio(found["fast"].wall_ms, found["slow"].wall_ms)
    cpu = paired_ratio(found["fast"].cpu_ms, found["slow"].cpu_ms)
    assert wall.value == pytest.approx(1 / 3, rel=0.05)
    assert cpu.value == pytest.approx(1 / 4, rel=0.05)
    assert wall.interval.low <= wall.value <= wall.interval.high
    rounds = [turns[2 + 2 * index : 4 + 2 * index] for index in range(40)]
    assert all(sorted(pair) == ["fast", "slow"] for pair in rounds)
    assert {tuple(pair) for pair in rounds} == {("fast", "slow"), ("slow", "fast")}
    assert (found["slow"].executions, found["fast"].executions) == (2, 6)


def test_spinning_threads_are_not_charged_to_the_next() -> None:
    machine = Machine(drift=1.0)
    subjects = {"spins": machine.subject(0.010, 0.010, spin=0.050), "rests": machine.subject(0.010, 0.010)}
    found = measure(subjects, Plan(rounds=8, max_warm_up_s=0.1), lambda name: None, machine.clock)
    ratio = paired_ratio(found["rests"].cpu_ms, found["rests"].wall_ms).value
    assert ratio == pytest.approx(1.0)
    # Its own executions in a batch do pay for what it left spinning.
    assert paired_ratio(found["spins"].cpu_ms, found["spins"].wall_ms).value > 1.5


def test_pairs_are_of_the_same_round() -> None:
    ratio = paired_ratio([1.0, 20.0, 3.0, 40.0, 5.0, 60.0, 7.0], [2.0, 40.0, 6.0, 80.0, 10.0, 120.0, 14.0])
    assert ratio.value == 0.5
    assert ratio.interval == (0.5, 0.5)


def samples(*wall_ms: float) -> Samples:
    return Samples(3, wall_ms, tuple(2 * value for value in wall_ms), 1)


def test_judging_needs_the_reference_of_the_same_rounds() -> None:
    sampled = {"eager": samples(4.0, 6.0, 8.0), REFERENCE: samples(2.0, 2.0, 2.0)}
    judged = judge("eager", sampled, 6_000_000_000, 100.0, CONDITIONS)
    assert (judged.wall_ratio, judged.cpu_ratio, judged.wall_interval) == (3.0, 3.0, (2.0, 4.0))
    assert judged.gflops == pytest.approx(6 / 6e-3)
    assert (judged.executions, judged.preempted, judged.base_wall_ms) == (3, 1, (2.0, 2.0, 2.0))
    alone = judge("eager", {"eager": samples(4.0, 6.0)}, 1, 100.0, CONDITIONS)
    assert (alone.status, alone.wall_ratio, alone.base_wall_ms) == ("timed", None, None)
