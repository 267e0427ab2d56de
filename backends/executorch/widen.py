"""Reductions that ExecuTorch's float16 kernels get wrong are computed in float32, in a float16 program too."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.fx import GraphModule, Node

from hycompile.attributes import put_tensor
from hycompile.builder import Builder
from hycompile.program import Program, constant
from hycompile.schema import is_call

# layer_norm: wrong above 256 elements a row (relative error 3 at 304), where its vectorised moments add a second level.
# group_norm: its expansion squares (see group_norm.py), which leaves float16's range at 256.
# var, cumsum: accumulate in float16 (relative errors 7e-2 and 1e-2 over a few thousand elements).
_REDUCTIONS = (
    "aten.layer_norm",
    "aten.group_norm",
    "aten.var.dim",
    "aten.var.correction",
    "aten.std.dim",
    "aten.std.correction",
    "aten.cumsum",
)


def widen_reductions(program: Program) -> int:
    """Put casts around the reductions of float16 methods; returns how many were widened."""
    return sum(_widen(method.graph) for method in program.methods.values())


def _widen(module: GraphModule) -> int:
    nodes = [node for node in module.graph.nodes if is_call(node, *_REDUCTIONS) and _is_half(node)]
    for node in nodes:
        build = Builder(module, node, "wide")
        arguments = [_wide(build, value) for value in node.args]
        result = build.call(cast("OpOverload", node.target), *arguments, **node.kwargs)
        node.replace_all_uses_with(build.call("aten._to_copy", result, dtype=torch.float16).node)
        module.graph.erase_node(node)
    module.recompile()
    return len(nodes)


def _wide(build: Builder, value: Any) -> Any:
    if not isinstance(value, Node) or not _is_half(value):
        return value
    weight = constant(build.module, value)
    if weight is None:
        return build.call("aten._to_copy", value, dtype=torch.float32)
    name = f"{value.target}_float32"
    put_tensor(build.module, name, weight.float())
    with build.module.graph.inserting_before(value):
        wide = build.module.graph.get_attr(name)
    wide.meta["val"] = value.meta["val"].float()
    return wide


def _is_half(node: Node) -> bool:
    value: Any = node.meta.get("val")
    return isinstance(value, Tensor) and value.dtype == torch.float16
