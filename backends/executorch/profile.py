"""Operator times from an ETDump trace."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from executorch.devtools import Inspector

from hycompile.backend import OperatorTime

# Events that contain others: the whole call, and the wrapper around each operator or delegate.
_CONTAINERS = ("OPERATOR_CALL", "DELEGATE_CALL")


def read_trace(trace: Path) -> list[OperatorTime]:
    """Sum each operator kind's fastest repetitions; kernels of a delegate have XNNPACK's own names."""
    calls: defaultdict[str, list[float]] = defaultdict(list)
    for block in Inspector(etdump_path=str(trace)).event_blocks:
        if block.name != "Execute":
            continue
        for event in block.events:
            if event.perf_data is None or event.name in _CONTAINERS or event.name.startswith("Method::"):
                continue
            name = event.delegate_debug_identifier if event.is_delegated_op else event.name
            calls[_kind(str(name))].append(min(event.perf_data.raw))
    times = [OperatorTime(name, len(each), sum(each)) for name, each in calls.items()]
    return sorted(times, key=lambda time: time.ms, reverse=True)


def _kind(name: str) -> str:
    """``Softmax (NC, F32) #3`` is ``Softmax (NC, F32)``; ``native_call_mean.out`` is ``mean.out``."""
    return re.sub(r" #\d+$", "", name).removeprefix("native_call_")
