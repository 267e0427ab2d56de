"""Reductions along a row (softmax, normalisation): all blocks of one row together, rows shared among cores."""

from __future__ import annotations

import math
from typing import Any

from tvm import tirx

from hycompile.backends.tvm.schedule.blocks import Block, same_shape
from hycompile.backends.tvm.schedule.elementwise import PARALLEL_WORK, schedule_elementwise, widest
from hycompile.backends.tvm.schedule.machine import Machine


def shared_axes(blocks: list[Block], machine: Machine) -> int:
    """How many leading axes all blocks share, so that they can run row by row; 0 where that would idle cores."""
    last = blocks[-1]
    if last.reduction:
        return 0
    limit = min(len(block.spatial) for block in blocks)
    shared = max(
        axes for axes in range(limit + 1) if all(same_shape(block.shape[:axes], last.shape[:axes]) for block in blocks)
    )
    shared = min(shared, len(last.spatial) - 1)
    rows = math.prod(extent for extent in last.shape[:shared] if isinstance(extent, int))
    return shared if rows >= 4 * machine.cores or sum(block.work for block in blocks) < PARALLEL_WORK else 0


def schedule_rows(sch: Any, blocks: list[Block], axes: int, machine: Machine) -> None:
    """Compute every block at the row loop of the last."""
    partial = {block.name: _partial_extremes(sch, block, machine) for block in blocks}
    row = sch.fuse(*sch.get_loops(blocks[-1].handle)[:axes])
    for block in reversed(blocks[:-1]):
        for handle in (block.handle, partial[block.name]):
            if handle is not None:
                sch.compute_at(handle, row, preserve_unit_loops=True)
    if sum(block.work for block in blocks) >= PARALLEL_WORK:
        sch.parallel(row)
    for block in blocks:
        if block.reduction:
            _separate_start(sch, block.handle, 1)
            if partial[block.name] is not None:
                _, lane, *_, step = sch.get_loops(partial[block.name])
                sch.reorder(step, lane)
                sch.vectorize(lane)
                _separate_start(sch, partial[block.name], 1)
        elif len(block.spatial) > axes:
            _vectorise_last(sch, block.handle, block.extents[-1], machine)


def schedule_alone(sch: Any, block: Block, machine: Machine) -> None:
    """One reduction or elementwise block that shares no rows with others."""
    if not block.reduction:
        schedule_elementwise(sch, block, machine)
        return
    outer = sch.get_loops(block.handle)[: len(block.spatial)]
    if outer and block.work >= PARALLEL_WORK:
        outer = [sch.fuse(*outer)]
        sch.parallel(outer[0])
    _separate_start(sch, block.handle, len(outer))


def _partial_extremes(sch: Any, block: Block, machine: Machine) -> Any:
    """Split a maximum or minimum into one a lane: LLVM reorders sums, but no comparisons, because of NaN.

    Returns:
        The block that keeps one extreme a lane; None where there is nothing to split.
    """
    extreme = block.reduction and isinstance(block.store.value, tirx.Max | tirx.Min)
    lanes = widest(block.extents[-1], machine) if extreme else 1
    if lanes == 1 or block.extents[-1] == lanes or block.reduction != (len(block.extents) - 1,):
        return None
    _, lane = sch.split(sch.get_loops(block.handle)[-1], [None, lanes])
    return sch.rfactor(lane, len(block.spatial))


def _separate_start(sch: Any, handle: Any, outer: int) -> None:
    """Set the start value inside the first ``outer`` loops: a test in every step would keep LLVM from vectorising."""
    sch.decompose_reduction(handle, sch.get_loops(handle)[outer])


def _vectorise_last(sch: Any, handle: Any, extent: Any, machine: Machine) -> None:
    lanes = widest(extent, machine)
    if lanes > 1:
        sch.vectorize(sch.split(sch.get_loops(handle)[-1], [None, lanes])[1])
