"""Elementwise blocks: the last axis vectorised, everything else fused and shared among cores."""

from __future__ import annotations

import math
from typing import Any

from hycompile.backends.tvm.schedule.blocks import Block
from hycompile.backends.tvm.schedule.machine import Machine

PARALLEL_WORK = 1 << 14


def schedule_elementwise(sch: Any, block: Block, machine: Machine) -> None:
    """Vectorise the last axis, if it is static; share the rest."""
    if not block.extents:
        return
    outer = sch.get_loops(block.handle)
    lanes = widest(block.extents[-1], machine)
    if lanes > 1:
        outer[-1], vector = sch.split(outer[-1], [None, lanes])
        sch.vectorize(vector)
    if block.work >= PARALLEL_WORK:
        sch.parallel(sch.fuse(*outer))


def widest(extent: Any, machine: Machine) -> int:
    """The largest power of two up to the vector length that divides an extent; 1 for a dynamic one."""
    if not isinstance(extent, int):
        return 1
    return math.gcd(extent, machine.lanes)
