"""What a schedule template needs to know about one TensorIR block, read once from its statement.

TVM annotates the variadic primitives of a schedule as taking lists; schedules are therefore ``Any`` in this package.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import tvm_ffi
from tvm import ir, s_tir, tirx


class NotScheduledError(Exception):
    """A template's reason for not taking a function, which then keeps its default loops."""


@dataclass(frozen=True)
class Block:
    """One block whose loops map one to one onto its iterators.

    ``spatial`` and ``reduction`` are positions into the loops; ``extents`` are those of all loops, in order, an
    expression where a size is dynamic.
    """

    handle: Any
    statement: Any
    extents: tuple[Any, ...]
    spatial: tuple[int, ...]
    reduction: tuple[int, ...]

    @property
    def name(self) -> str:
        return str(self.statement.name_hint)

    @property
    def work(self) -> int:
        """Number of times the body runs, per unit of any dynamic size."""
        return math.prod(extent for extent in self.extents if isinstance(extent, int))

    @property
    def shape(self) -> tuple[Any, ...]:
        """Extents of the spatial loops."""
        return tuple(self.extents[axis] for axis in self.spatial)

    def size(self, axis: int) -> int:
        """A static extent.

        Raises:
            NotScheduledError: the extent is dynamic, and cannot be tiled.
        """
        extent = self.extents[axis]
        if not isinstance(extent, int):
            raise NotScheduledError("the axis to tile is dynamic")
        return extent

    def variable(self, axis: int) -> Any:
        return self.statement.iter_vars[axis].var

    @property
    def store(self) -> Any:
        """The one store of the body."""
        return self.statement.body


def read_block(sch: Any, handle: Any) -> Block:
    """Describe a block; one that computes a single element has no loops and no axes.

    Raises:
        NotScheduledError: iterators bound to expressions or of another kind, a body that is not one store.
    """
    statement = sch.get(handle)
    loops = [sch.get(loop) for loop in sch.get_loops(handle)]
    if not loops and isinstance(statement.body, tirx.BufferStore):
        return Block(handle, statement, (), (), ())
    if len(loops) != len(statement.iter_vars) or not _plainly_bound(loops):
        raise NotScheduledError("an iterator is not bound to one loop")
    if not isinstance(statement.body, tirx.BufferStore):
        raise NotScheduledError(f"a block holds {type(statement.body).__name__} instead of one store")
    kinds = [int(iterator.iter_type) for iterator in statement.iter_vars]
    spatial = tuple(axis for axis, kind in enumerate(kinds) if kind == tirx.IterVar.DataPar)
    reduction = tuple(axis for axis, kind in enumerate(kinds) if kind == tirx.IterVar.CommReduce)
    if len(spatial) + len(reduction) != len(kinds):
        raise NotScheduledError("an iterator is neither spatial nor a reduction")
    return Block(handle, statement, tuple(map(_extent, loops)), spatial, reduction)


def _extent(loop: Any) -> Any:
    return int(loop.extent) if isinstance(loop.extent, tirx.IntImm) else loop.extent


def same_shape(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    """Whether two lists of extents are equal, dynamic ones as expressions."""
    return len(a) == len(b) and all(_equal(x, y) for x, y in zip(a, b, strict=True))


def _equal(a: Any, b: Any) -> bool:
    return a == b if isinstance(a, int) or isinstance(b, int) else bool(tvm_ffi.structural_equal(a, b))


def _plainly_bound(loops: list[Any]) -> bool:
    realize = loops[-1].body
    return isinstance(realize, s_tir.SBlockRealize) and all(
        loop.loop_var.same_as(value) for loop, value in zip(loops, realize.iter_values, strict=True)
    )


def child_blocks(sch: Any) -> list[Block]:
    """The blocks directly under the function's root, producers before consumers."""
    return [read_block(sch, handle) for handle in sch.get_child_blocks(sch.get_sblock("root"))]


def loads(expression: Any) -> list[Any]:
    """Every buffer load inside an expression."""
    found: list[Any] = []
    tvm_ffi.structural_walk(expression, (ir.TensorLoad, found.append), order="post")
    return found


def uses(expression: Any, variable: Any) -> bool:
    """Whether a variable occurs in an expression."""
    found: list[Any] = []
    tvm_ffi.structural_walk(expression, (tirx.Var, found.append), order="post")
    return any(seen.same_as(variable) for seen in found)


def stride_one(load: Any, variable: Any) -> bool:
    """Whether neighbouring values of ``variable`` read neighbouring elements: it moves the last index only."""
    return not any(uses(index, variable) for index in load.indices[:-1]) and uses(load.indices[-1], variable)


def constant_in(load: Any, variable: Any) -> bool:
    """Whether a load does not depend on ``variable``."""
    return not any(uses(index, variable) for index in load.indices)
