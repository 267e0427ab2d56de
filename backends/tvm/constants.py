"""Constants of a Relax module: folded where that is a mere change of layout, then lifted out as parameters.

TVM's own FoldConstant compiles and runs a function per fold (11 s for the 140 folds of mobilevit_xs); layout changes
are done here with numpy. Weights as parameters keep the library small and let methods share them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import IRModule, ir, relax
from tvm.relax.expr_functor import PyExprMutator, mutator

WEIGHT_ELEMENTS = 16  # anything smaller stays in the library


def _shape(call: Any) -> tuple[int, ...]:
    return tuple(int(size) for size in call.ty.shape)


def _axes(call: Any) -> list[int] | None:
    return [int(axis) for axis in call.attrs.axes] if call.attrs.axes else None


_FOLDS: dict[str, Callable[[Any, Any], Any]] = {
    "relax.permute_dims": lambda call, value: np.transpose(value, _axes(call)),
    "relax.reshape": lambda call, value: value.reshape(_shape(call)),
    "relax.expand_dims": lambda call, value: value.reshape(_shape(call)),
    "relax.squeeze": lambda call, value: value.reshape(_shape(call)),
}


@mutator
class _LayoutFolder(PyExprMutator):
    """Evaluates layout changes of constants."""

    def visit_call_(self, op: Any) -> Any:
        call: Any = self.visit_expr_post_order(op)
        fold = _FOLDS.get(getattr(call.op, "name", ""))
        source = self._constant(call.args[0]) if fold else None
        if fold is None or source is None:
            return call
        folded = np.ascontiguousarray(fold(call, source.value.numpy()))
        return relax.const(folded, str(folded.dtype))

    def _constant(self, value: Any) -> Any:
        if isinstance(value, ir.Var):
            value = self.lookup_binding(value)
        return value if isinstance(value, ir.GenericConst) else None


def fold_layout(module: IRModule) -> IRModule:
    """Evaluate transposes and reshapes of constants."""
    return _rewritten(module, lambda function: _LayoutFolder(module).visit_expr(function))


@mutator
class _Lifter(PyExprMutator):
    """Replaces large constants by parameters named after their content."""

    def __init__(self, module: IRModule) -> None:
        super().__init__(module)
        self.weights: dict[str, Any] = {}
        self.parameters: dict[str, Any] = {}

    def visit_generic_const_(self, op: Any) -> Any:
        value = op.value.numpy()
        if value.size < WEIGHT_ELEMENTS:
            return op
        sha = hashlib.sha256(f"{value.dtype} {value.shape}".encode())
        sha.update(np.ascontiguousarray(value).data)
        name = sha.hexdigest()
        if name not in self.parameters:
            self.weights[name] = value
            self.parameters[name] = relax.Var(f"weight_{len(self.parameters)}", op.ty)
        return self.parameters[name]


def lift_weights(module: IRModule) -> tuple[IRModule, dict[str, Any], dict[str, tuple[str, ...]]]:
    """Give every Relax function its constants as parameters behind its own.

    Returns:
        The module; the distinct weights as numpy arrays by content name; each function's weights, in parameter order.
    """
    weights: dict[str, Any] = {}
    order: dict[str, tuple[str, ...]] = {}

    def lift(function: Any) -> Any:
        lifter = _Lifter(module)
        body = lifter.visit_expr(function.body)
        name = str(function.attrs["global_symbol"])
        weights.update(lifter.weights)
        order[name] = tuple(lifter.parameters)
        parameters = [*function.params, *lifter.parameters.values()]
        return relax.Function(parameters, body, function.ret_ty, function.is_pure, function.attrs)

    return _rewritten(module, lift), weights, order


def _rewritten(module: IRModule, change: Callable[[Any], Any]) -> IRModule:
    out = module.clone()
    for variable, function in module.functions_items():
        if isinstance(function, relax.Function):
            out.update_func(variable, change(function))
    return out
