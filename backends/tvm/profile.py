"""Times every call of the virtual machine and sums it by kind of operator."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from hycompile.backend import OperatorTime

_NO_OP = 0


def operator_times(vm: Any, call: Callable[[], object], runs: int) -> list[OperatorTime]:
    """Run ``call`` ``runs`` times on an instrumented machine.

    Returns:
        Per kind, slowest first, the fastest repetition of each of its calls, summed.
    """
    fastest: dict[tuple[int, str], float] = {}
    clock = _Clock()
    vm.set_instrument(clock)
    for _ in range(runs):
        clock.calls.clear()
        call()
        for index, (name, ms) in enumerate(clock.calls):
            fastest[index, name] = min(ms, fastest.get((index, name), float("inf")))
    kinds: dict[str, list[float]] = defaultdict(list)
    for (_, name), ms in fastest.items():
        kinds[kind_of(name)].append(ms)
    times = [OperatorTime(kind, len(each), sum(each)) for kind, each in kinds.items()]
    return sorted(times, key=lambda time: time.ms, reverse=True)


def kind_of(function: str) -> str:
    """``fused_conv2d7_add6_silu4`` is a ``conv2d+add+silu``; the machine's own calls keep their name."""
    if function.startswith("vm."):
        return function
    parts = [re.sub(r"\d+$", "", part) for part in function.removeprefix("fused_").split("_")]
    return "+".join(part for part in parts if part)


class _Clock:
    """The machine calls this before and after each of its calls; it keeps (function, milliseconds) in order."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, float]] = []
        self._started = 0.0

    def __call__(self, function: Any, name: str, before: bool, result: Any, *arguments: Any) -> int:
        if before:
            self._started = time.perf_counter()
        else:
            self.calls.append((name, (time.perf_counter() - self._started) * 1e3))
        return _NO_OP
