"""Inlining of injective blocks: what is cheap to recompute disappears into its consumer."""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import ir
from tvm.s_tir import ScheduleError

from hycompile.backends.tvm.schedule.blocks import Block, child_blocks, loads, read_block, stride_one, uses


def inline_injective(sch: Any) -> int:
    """Inline every block that its consumers can recompute without losing time; returns how many."""
    count = 0
    for block in child_blocks(sch):
        if block.reduction or not _worth_inlining(sch, block):
            continue
        try:
            sch.compute_inline(block.handle)
        except ScheduleError:
            continue
        count += 1
    return count


def _worth_inlining(sch: Any, block: Block) -> bool:
    consumers = [read_block(sch, handle) for handle in sch.get_consumers(block.handle)]
    if len(consumers) > 1 and _calls(block.store.value):
        return False
    return bool(consumers) and all(_recomputes_cheaply(block, consumer) for consumer in consumers)


def _recomputes_cheaply(block: Block, consumer: Block) -> bool:
    """A contraction reads each element many times, so only a plain contiguous copy may move into it.

    An injective consumer reads each element once, unless it broadcasts: then functions such as exp are kept apart.
    """
    if consumer.reduction and len(loads(consumer.store.value)) > 2:
        return _contiguous_copy(block)
    if consumer.work > block.work:
        return not _calls(block.store.value)
    return True


def _contiguous_copy(block: Block) -> bool:
    value = block.store.value
    if not isinstance(value, ir.TensorLoad) or not block.spatial:
        return False
    innermost = block.variable(block.spatial[-1])
    return stride_one(value, innermost) or not uses(value, innermost)


def _calls(expression: Any) -> bool:
    found: list[Any] = []
    tvm_ffi.structural_walk(expression, (ir.Call, found.append), order="post")
    return bool(found)
