"""The same Program in another floating-point type."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

from hycompile.attributes import put_tensor, storage_key, tensor_at
from hycompile.fake import fake_mode, infer
from hycompile.program import Method, Program, Step
from hycompile.quantisation.nodes import CHOOSE_ROWS, DEQUANTISE, DEQUANTISE_CHANNELS, is_quantise, is_scale
from hycompile.schema import is_call, overload, parameters


def to_dtype(program: Program, dtype: torch.dtype) -> Program:
    """Convert weights, state, inputs of examples and script, and explicit dtype arguments to ``dtype``.

    Integer tensors and the scales of quantised weights stay as they are; two names over one storage stay one tensor.
    Values are rounded to whole numbers in float32, whatever the Program computes in.
    """
    memo: dict[Any, Tensor] = {}
    methods = {name: _convert(method.copy(), dtype, memo) for name, method in program.methods.items()}
    return replace(
        program,
        methods=methods,
        provenance=dict(program.provenance),
        script=_cast_steps(program.script, dtype),
        calibration=_cast_steps(program.calibration, dtype),
    )


def _cast_steps(steps: tuple[Step, ...], dtype: torch.dtype) -> tuple[Step, ...]:
    return tuple(Step(step.method, tuple(_cast(value, dtype) for value in step.inputs)) for step in steps)


def _convert(method: Method, dtype: torch.dtype, memo: dict[Any, Tensor]) -> Method:
    module = method.graph
    mode = fake_mode(module.graph)
    for name in {str(node.target) for node in module.graph.find_nodes(op="get_attr") if not is_scale(node)}:
        tensor = tensor_at(module, name)
        if tensor.is_floating_point() and tensor.dtype != dtype:
            put_tensor(module, name, memo.setdefault(storage_key(tensor), _cast(tensor, dtype)))
    for node in module.graph.nodes:
        _convert_node(module, node, dtype)
        _convert_rounding(module, node, dtype, mode)
        if node.op == "placeholder" and isinstance(node.meta["val"], Tensor):
            with mode:
                node.meta["val"] = _cast(node.meta["val"], dtype)
        infer(module, node, mode)
    module.recompile()
    args, kwargs = pytree.tree_map(lambda value: _cast(value, dtype), (method.args, method.kwargs))
    return Method(module, args, kwargs, method.dynamic_shapes)


def _cast(value: Any, dtype: torch.dtype) -> Any:
    """Finite values beyond the range of ``dtype`` saturate: the -3.4e38 of an attention mask must not become -inf."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return value
    limit = torch.finfo(dtype).max
    if limit >= torch.finfo(value.dtype).max:
        return value.to(dtype)
    return torch.where(value.isfinite(), value.clamp(-limit, limit), value).to(dtype)


def _convert_rounding(module: GraphModule, node: Node, dtype: torch.dtype, mode: FakeTensorMode) -> None:
    """Quantise nodes take float32, and dequantise nodes give ``dtype``: those of groups and rows name it always."""
    if is_call(node, DEQUANTISE, DEQUANTISE_CHANNELS):
        node.kwargs = {**node.kwargs, "out_dtype": dtype}
    elif (is_quantise(node) or is_call(node, CHOOSE_ROWS)) and node.all_input_nodes[0].meta[
        "val"
    ].dtype != torch.float32:
        given = node.all_input_nodes[0]
        with module.graph.inserting_before(node):
            cast = module.graph.call_function(overload("aten._to_copy"), (given,), {"dtype": torch.float32})
        infer(module, cast, mode)
        node.replace_input_with(given, cast)


def _convert_node(module: GraphModule, node: Node, dtype: torch.dtype) -> None:
    """Replace floating dtype arguments, saturate numbers, and give factories without a dtype the new default."""
    if node.op != "call_function":
        return
    limit = torch.finfo(dtype).max

    def swap(value: Any) -> Any:
        if isinstance(value, torch.dtype) and value.is_floating_point:
            return dtype
        return max(-limit, min(limit, value)) if isinstance(value, float) and math.isfinite(value) else value

    node.args = pytree.tree_map(swap, node.args)
    node.kwargs = pytree.tree_map(swap, node.kwargs)
    value = node.meta.get("val")
    takes_tensors = any(isinstance(source.meta.get("val"), Tensor) for source in node.all_input_nodes)
    if not isinstance(value, Tensor) or not value.is_floating_point() or takes_tensors:
        return
    if any(a.name == "dtype" for a in parameters(node.target)) and node.kwargs.get("dtype") is None:
        node.kwargs = {**node.kwargs, "dtype": dtype}
