"""Reads the trace that ONNX Runtime's profiler leaves behind."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

from hycompile.backend import OperatorTime

_KERNEL = "_kernel_time"


def operator_times(trace: Path) -> list[OperatorTime]:
    """Time per operator kind, slowest first: the fastest repetition of each node, summed over the nodes of a kind.

    ``trace`` is the JSON of Chrome's tracing format: one event per node and run, durations in microseconds. Fused
    nodes carry the kind ONNX Runtime gave them (``FusedConv``).
    """
    fastest: dict[tuple[str, str], float] = {}
    for event in json.loads(trace.read_text()):
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL):
            node = (event["args"]["op_name"], event["name"].removesuffix(_KERNEL))
            fastest[node] = min(fastest.get(node, float("inf")), event["dur"] / 1000)
    kinds: dict[str, list[float]] = defaultdict(list)
    for (kind, _), ms in fastest.items():
        kinds[kind].append(ms)
    times = [OperatorTime(kind, len(each), sum(each)) for kind, each in kinds.items()]
    return sorted(times, key=lambda time: time.ms, reverse=True)
