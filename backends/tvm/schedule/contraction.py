"""Contractions (convolution, matrix product, pooling): an outer product of rows and vectors kept in registers.

The last output axis is the vector axis; a spatial axis before it gives the rows. Loop order:

    outer axes, row tiles, column tiles | reduction | rows (unrolled), vectors (unrolled), lanes (vectorised)

The accumulators of one tile live in local memory that LLVM turns into registers; the elementwise consumer is computed
on the tile while it is there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import tvm_ffi
from tvm import tirx

from hycompile.backends.tvm.schedule.blocks import (
    Block,
    NotScheduledError,
    loads,
    read_block,
    same_shape,
    stride_one,
    uses,
)
from hycompile.backends.tvm.schedule.machine import Machine
from hycompile.backends.tvm.schedule.packing import Packing, pack_operands

PARALLEL_WORK = 1 << 15
CACHED_BYTES = 1 << 19


@dataclass(frozen=True)
class Tile:
    """``rows`` x ``vectors`` accumulators of ``lanes`` elements."""

    rows: int
    vectors: int
    lanes: int

    @property
    def columns(self) -> int:
        return self.vectors * self.lanes


def takes(block: Block) -> bool:
    """Whether a reduction can be vectorised over its last output axis with contiguous or constant loads."""
    if not block.reduction or not block.spatial:
        return False
    column = block.variable(block.spatial[-1])
    if not block.store.indices or not block.store.indices[-1].same_as(column):
        return False
    operands = [load for load in loads(block.store.value) if not load.source.same_as(block.store.buffer)]
    return any(stride_one(load, column) for load in operands)


def divisors(value: int, limit: int) -> list[int]:
    return [factor for factor in range(1, min(value, limit) + 1) if value % factor == 0]


def choose_tile(rows: int, columns: int, machine: Machine) -> Tile:
    """The tile with the most arithmetic per load that fits the registers.

    ``rows * vectors`` accumulators, ``vectors`` operands and one broadcast value share the register file.
    """
    lanes = max(lanes for lanes in divisors(columns, machine.lanes) if lanes & (lanes - 1) == 0)
    best, best_score = Tile(1, 1, lanes), 0.0
    for vectors in divisors(columns // lanes, 4):
        for height in divisors(rows, machine.registers):
            if height * vectors + vectors + 1 > machine.registers:
                continue
            per_load = height * vectors / (height + vectors)
            in_flight = min(1.0, height * vectors / 8)
            score = min(per_load, 2.0) * in_flight + 0.01 * per_load
            if score > best_score:
                best, best_score = Tile(height, vectors, lanes), score
    return best


def vector_limit(block: Block) -> int:
    """Columns over which every load stays contiguous or constant: the channels of a group, if there are groups."""
    column = block.variable(block.spatial[-1])
    limit = block.size(block.spatial[-1])
    found: list[Any] = []
    tvm_ffi.structural_walk(block.store.value, ((tirx.FloorDiv, tirx.FloorMod), found.append), order="post")
    for division in found:
        if uses(division.a, column):
            if not isinstance(division.b, tirx.IntImm):
                raise NotScheduledError("an index divides by a runtime value")
            limit = math.gcd(limit, int(division.b))
    return limit


def row_axis(block: Block) -> int | None:
    """The innermost axis besides the columns whose size is known: a dynamic one cannot be tiled."""
    known = [axis for axis in block.spatial[:-1] if isinstance(block.extents[axis], int)]
    return next((axis for axis in reversed(known) if block.extents[axis] > 1), known[-1] if known else None)


def schedule_contraction(
    sch: Any, block: Block, epilogue: Block | None, machine: Machine, constant: dict[int, Any]
) -> Packing:
    """Tile one contraction, computing its elementwise ``epilogue`` (same shape, if any) on each tile.

    Returns:
        How the constant operands, given as argument position to buffer, are now laid out.
    """
    rows = row_axis(block)
    tile = choose_tile(1 if rows is None else block.size(rows), vector_limit(block), machine)
    packing = pack_operands(sch, block, tile.columns, constant)
    outer, summed, inner = _tiled_loops(sch, block, rows, tile)
    if epilogue is None:
        writer = sch.cache_write(block.handle, 0, "local")
    else:
        sch.set_scope(block.handle, 0, "local")
        writer = epilogue.handle
    sch.reverse_compute_at(writer, outer[-1], preserve_unit_loops=True)
    _unroll(sch, sch.get_loops(writer)[len(outer) :], tile)
    for loop in inner[:-1]:
        sch.unroll(loop)
    sch.vectorize(inner[-1])
    if block.work >= PARALLEL_WORK:
        sch.parallel(sch.fuse(*outer))
    sch.decompose_reduction(block.handle, summed[0])
    return packing


def _tiled_loops(sch: Any, block: Block, rows: int | None, tile: Tile) -> tuple[list[Any], list[Any], list[Any]]:
    """Split and reorder; returns the loops over tiles, over the sum, and within a tile, outermost first."""
    loops, columns = sch.get_loops(block.handle), block.spatial[-1]
    column_outer, vectors, lanes = sch.split(loops[columns], [None, tile.vectors, tile.lanes])
    outer = [loops[axis] for axis in block.spatial[:-1] if axis != rows]
    inner = [vectors, lanes]
    if rows is not None:
        row_outer, row = sch.split(loops[rows], [None, tile.rows])
        outer, inner = [*outer, row_outer], [row, *inner]
    outer = [column_outer, *outer] if columns_first(block) else [*outer, column_outer]
    summed = [loops[axis] for axis in block.reduction]
    sch.reorder(*outer, *summed, *inner)
    return outer, summed, inner


def columns_first(block: Block) -> bool:
    """Whether the loop over column tiles goes outermost.

    Rows outermost read the whole weight once a row tile, which is right while it stays in the second-level cache;
    a larger weight is read once in all, and the rows once a column tile.
    """
    sizes = (block.extents[axis] for axis in block.reduction)
    columns, summed = block.size(block.spatial[-1]), math.prod(size for size in sizes if isinstance(size, int))
    rows = block.work // (columns * summed)
    weight, data = 4 * columns * summed, 4 * rows * summed
    return weight > CACHED_BYTES and data < 4 * weight


def _unroll(sch: Any, loops: list[Any], tile: Tile) -> None:
    """Unroll the tile's writer so that the accumulators are only ever indexed by constants."""
    *rows, columns = loops
    vectors, lanes = sch.split(columns, [None, tile.lanes])
    for loop in (*rows, vectors):
        sch.unroll(loop)
    sch.vectorize(lanes)


def find_epilogue(sch: Any, block: Block) -> Block | None:
    """The one elementwise consumer of the same shape that reads exactly what was just computed, if there is one."""
    consumers = sch.get_consumers(block.handle)
    if len(consumers) != 1:
        return None
    consumer = read_block(sch, consumers[0])
    if consumer.reduction or not same_shape(consumer.shape, block.shape):
        return None
    written = block.store.buffer
    reads = [load for load in loads(consumer.store.value) if load.source.same_as(written)]
    plain = [consumer.variable(axis) for axis in consumer.spatial]
    same = all(
        index.same_as(variable)
        for load in [*reads, consumer.store]
        for index, variable in zip(load.indices, plain, strict=True)
    )
    return consumer if same else None
