"""Operators of an edge-dialect graph: which count as compute, what they are called, which kernel they need."""

from __future__ import annotations

from typing import Any

import torch
from executorch.exir.operator.convert import to_out_variant
from torch.fx import Graph, GraphModule, Node

# Emitted as memory aliases, without a kernel call.
_FREE = {"view_copy"}


def compute_operators(graph: Graph) -> list[Node]:
    """The calls that compute tensors: no delegate calls, tuple access, sizes or views."""
    return [
        node
        for node in graph.nodes
        if _schema(node) is not None and _makes_tensor(node) and operator_name(node) not in _FREE
    ]


def operator_name(node: Node) -> str:
    """``native_layer_norm`` for the default overload, ``squeeze_copy.dims`` for another."""
    schema = _schema(node)
    if schema is None:
        return str(getattr(node.target, "__name__", node.target))
    name: str = schema.name.partition("::")[2]
    return f"{name}.{schema.overload_name}" if schema.overload_name else name


def kernel(node: Node) -> str | None:
    """The kernel the runtime needs, as it registers them (``aten::any.out``); None if no such variant exists."""
    target: Any = node.target
    try:
        out = target.to_out_variant() if hasattr(target, "to_out_variant") else to_out_variant(target)[0]
    except (RuntimeError, AssertionError):
        return None
    schema: Any = getattr(out, "_schema")  # noqa: B009
    return f"{schema.name}.{schema.overload_name}" if schema.overload_name else str(schema.name)


def kernels_here() -> frozenset[str]:
    """Names of every kernel in this host's runtime, which are those of the stock mobile libraries."""
    from executorch.runtime import Runtime

    return frozenset(Runtime.get().operator_registry.operator_names)


def delegate_calls(module: GraphModule) -> list[Any]:
    """The lowered module of every delegate call, in graph order."""
    calls = [node for node in module.graph.nodes if getattr(node.target, "__name__", "") == "executorch_call_delegate"]
    return [getattr(module, str(node.args[0].target)) for node in calls]


def _schema(node: Node) -> Any:
    """The ATen schema of an edge or ATen operator; None for Python functions and higher-order operators."""
    target: Any = node.target
    schema = getattr(target, "_schema", None) if node.op == "call_function" else None
    return getattr(schema, "schema", schema)


def _makes_tensor(node: Node) -> bool:
    values = node.meta.get("val")
    return any(
        isinstance(value, torch.Tensor) for value in (values if isinstance(values, (tuple, list)) else (values,))
    )
