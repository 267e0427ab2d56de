"""Arguments of graph nodes by schema name, defaults filled in: ``conv2d(x, w)`` and ``conv2d(x, w, None)`` look the same."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch.fx import Node


@cache
def overload(name: str) -> torch._ops.OpOverload:
    """The operator called ``name``: ``"aten.conv2d"`` (its ``default`` overload) or ``"aten.add.Tensor"``.

    Raises:
        AttributeError: no such operator.
    """
    namespace, packet, *rest = name.split(".")
    found = getattr(getattr(torch.ops, namespace), packet)
    return getattr(found, rest[0] if rest else "default")


def is_call(node: object, *names: str) -> bool:
    """Whether ``node`` calls one of the named operators."""
    return (
        isinstance(node, Node) and node.op == "call_function" and any(node.target is overload(name) for name in names)
    )


def bind(node: Node) -> dict[str, Any]:
    """Arguments of a call by schema name, in schema order, with defaults for those not given."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return {str(index): value for index, value in enumerate(node.args)} | dict(node.kwargs)
    bound: dict[str, Any] = {}
    for index, argument in enumerate(node.target._schema.arguments):
        if index < len(node.args):
            bound[argument.name] = node.args[index]
        elif argument.name in node.kwargs:
            bound[argument.name] = node.kwargs[argument.name]
        else:
            bound[argument.name] = argument.default_value if argument.has_default_value() else None
    return bound


def operator_name(node: Node) -> str:
    """``aten.conv2d`` for the default overload, ``aten.add.Tensor`` for another, ``getitem`` for a Python function."""
    if isinstance(node.target, torch._ops.OpOverload):
        return str(node.target).removesuffix(".default")
    return getattr(node.target, "__name__", str(node.target))
