"""What is read of the host, and when its numbers are doubted."""

from __future__ import annotations

from dataclasses import replace

from hycompile.measure import memory
from hycompile.measure.conditions import load_average, read_conditions, tool_versions


def test_conditions_of_this_host() -> None:
    conditions = read_conditions(1, load_average(), tool_versions("torch", "no-such-package"))
    assert conditions.cpu
    assert conditions.cpus >= 1
    assert list(conditions.tools) == ["torch"]
    assert conditions.taken_at.endswith("Z")


def test_a_busy_machine_is_warned_of_and_our_own_threads_are_not() -> None:
    conditions = read_conditions(2, 0.0, {})
    assert replace(conditions, load_before=0.1, load_after=2.2).warning is None
    busy = replace(conditions, load_before=6.0, load_after=2.0).warning
    assert busy is not None
    assert "load average 6.0" in busy


def test_peak_memory_starts_anew() -> None:
    before = memory.resident_mb()
    memory.reset_peak()
    block = bytearray(64_000_000)
    block[::4096] = b"x" * len(block[::4096])
    peak = memory.peak_mb()
    assert before is not None
    assert peak is not None
    assert peak - before > 50
