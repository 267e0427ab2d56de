"""The same Program in another floating-point type."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

from hycompile.attributes import put_tensor, storage_key, tensor_at
from hycompile.fake import fake_mode, infer
from hycompile.program import Method, Program


def to_dtype(program: Program, dtype: torch.dtype) -> Program:
    """Convert weights, state, example inputs and explicit dtype arguments of every method to ``dtype``.

    Integer tensors stay as they are; two names over one storage stay one tensor.
    """
    memo: dict[Any, Tensor] = {}
    methods = {name: _convert(method.copy(), dtype, memo) for name, method in program.methods.items()}
    return Program(program.name, methods, dict(program.provenance))


def _convert(method: Method, dtype: torch.dtype, memo: dict[Any, Tensor]) -> Method:
    module = method.graph
    mode = fake_mode(module.graph)
    for name in {str(node.target) for node in module.graph.find_nodes(op="get_attr")}:
        tensor = tensor_at(module, name)
        if tensor.is_floating_point() and tensor.dtype != dtype:
            put_tensor(module, name, memo.setdefault(storage_key(tensor), tensor.to(dtype)))
    for node in module.graph.nodes:
        _convert_node(module, node, dtype)
        if node.op == "placeholder" and isinstance(node.meta["val"], Tensor):
            with mode:
                node.meta["val"] = _cast(node.meta["val"], dtype)
        infer(module, node, mode)
    module.recompile()
    args, kwargs = pytree.tree_map(lambda value: _cast(value, dtype), (method.args, method.kwargs))
    return Method(module, args, kwargs, method.dynamic_shapes)


def _cast(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value


def _convert_node(module: GraphModule, node: Node, dtype: torch.dtype) -> None:
    """Replace floating dtype arguments, and give factories without one the new default."""
    if node.op != "call_function":
        return

    def swap(value: Any) -> Any:
        return dtype if isinstance(value, torch.dtype) and value.is_floating_point else value

    node.args = pytree.tree_map(swap, node.args)
    node.kwargs = pytree.tree_map(swap, node.kwargs)
    value = node.meta.get("val")
    makes_tensor = isinstance(value, Tensor) and not any(
        "val" in n.meta and isinstance(n.meta["val"], Tensor) for n in node.all_input_nodes
    )
    takes_dtype = isinstance(node.target, torch._ops.OpOverload) and any(
        a.name == "dtype" for a in node.target._schema.arguments
    )
    if makes_tensor and takes_dtype and value.is_floating_point() and node.kwargs.get("dtype") is None:
        node.kwargs = {**node.kwargs, "dtype": dtype}
