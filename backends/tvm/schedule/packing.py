"""Weight packing: a constant operand is stored tile after tile, in the order a contraction reads it.

A column tile of a row-major weight is a cache line or two out of every row; with rows of 4 KiB all of them fall into
the same cache set. Packed, W [..., K, J] becomes [J / columns, ..., K, columns] and is read from end to end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import IRModule, ir, relax, tirx
from tvm.relax.expr_functor import PyExprMutator, mutator

from hycompile.backends.tvm.schedule.blocks import Block, loads, stride_one

Packing = dict[int, int]  # argument position to columns of a tile


def constant_arguments(module: IRModule) -> dict[str, set[int]]:
    """For each TensorIR function, the argument positions that are constants wherever it is called."""
    found: dict[str, set[int]] = {}

    def visit(call: Any) -> None:
        if not _is_call_tir(call):
            return
        given = {index for index, value in enumerate(call.args[1].fields) if isinstance(value, ir.GenericConst)}
        name = call.args[0].name_hint
        found[name] = found[name] & given if name in found else given

    for _, function in module.functions_items():
        if isinstance(function, relax.Function):
            relax.analysis.post_order_visit(function, visit)
    return found


def pack_operands(sch: Any, block: Block, columns: int, constant: dict[int, Any]) -> Packing:
    """Lay out the operands of a contraction that are constant (argument position to buffer) in tiles."""
    column_axis = block.spatial[-1]
    if block.size(column_axis) == columns:
        return {}
    packed: Packing = {}
    operands = {id(load.source): load for load in loads(block.store.value)}.values()
    for position, buffer in constant.items():
        load = next((load for load in operands if load.source.same_as(buffer)), None)
        if load is None or not stride_one(load, block.variable(column_axis)):
            continue
        if not load.indices[-1].same_as(block.variable(column_axis)):
            continue
        read = next(i for i, region in enumerate(block.statement.reads) if region.source.same_as(buffer))
        sch.transform_layout(block.handle, ("read", read), lambda *at: (at[-1] // columns, *at[:-1], at[-1] % columns))
        packed[position] = columns
    return packed


def repack_constants(module: IRModule, packings: dict[str, Packing]) -> IRModule:
    """Bring the constants at every call into the layout their function now expects."""
    builder = relax.BlockBuilder()
    functions: dict[str, Any] = {variable.name_hint: function for variable, function in module.functions_items()}
    kernels = {
        name: builder.add_func(_retyped(function) if packings.get(name) else function, name)
        for name, function in functions.items()
        if isinstance(function, tirx.PrimFunc)
    }
    for name, function in functions.items():
        if isinstance(function, relax.Function):
            repacked: Any = _Repacker(module, packings, kernels).visit_expr(function)
            builder.add_func(repacked, name)
    return builder.get()


def _retyped(function: Any) -> Any:
    """A function's type is fixed when it is made, and would keep the shapes of before."""
    return tirx.PrimFunc(function.params, function.body, function.ret_type, function.attrs)


@mutator
class _Repacker(PyExprMutator):
    def __init__(self, module: IRModule, packings: dict[str, Packing], kernels: dict[str, Any]) -> None:
        super().__init__(module)
        self.packings, self.kernels = packings, kernels

    def visit_call_(self, op: Any) -> Any:
        call = op
        if not _is_call_tir(call):
            return self.visit_expr_post_order(call)
        kernel = call.args[0].name_hint
        packing = self.packings.get(kernel, {})
        fields = [
            _packed(value, packing[index]) if index in packing else self.visit_expr(value)
            for index, value in enumerate(call.args[1].fields)
        ]
        arguments: list[Any] = [self.kernels[kernel], relax.Tuple(fields), *call.args[2:]]
        return relax.Call(call.op, arguments, call.attrs, call.ty_args)


def _packed(constant: Any, columns: int) -> Any:
    value = constant.value.numpy()
    tiles = value.reshape(*value.shape[:-1], value.shape[-1] // columns, columns)
    packed = np.ascontiguousarray(np.moveaxis(tiles, -2, 0))
    return relax.const(packed, str(packed.dtype))


def _is_call_tir(call: Any) -> bool:
    return isinstance(call, relax.Call) and getattr(call.op, "name", "") == "relax.call_tir"
