"""Arguments of graph nodes by schema name, defaults filled in: ``conv2d(x, w)`` looks like ``conv2d(x, w, None)``."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch._ops import OpOverload
from torch.fx import Node

from hycompile.errors import PassError


@cache
def overload(name: str) -> OpOverload:
    """The operator called ``name``: ``"aten.conv2d"`` (its ``default`` overload) or ``"aten.add.Tensor"``.

    Raises:
        PassError: no such operator.
    """
    namespace, _, rest = name.partition(".")
    packet, _, chosen = rest.partition(".")
    try:
        return getattr(getattr(getattr(torch.ops, namespace), packet), chosen or "default")
    except AttributeError as error:
        raise PassError(f"operator {name!r}", f"no such operator ({error})", "write it as aten.add.Tensor") from None


@cache
def _targets(names: tuple[str, ...]) -> frozenset[object]:
    return frozenset(overload(name) for name in names)


def is_call(node: object, *names: str) -> bool:
    """Whether ``node`` calls one of the named operators."""
    return isinstance(node, Node) and node.op == "call_function" and node.target in _targets(names)


def parameters(target: object) -> list[torch.Argument]:
    """What an operator takes, in schema order; nothing is known of a Python function."""
    if not isinstance(target, OpOverload):
        return []
    return target._schema.arguments  # pyright: ignore[reportPrivateUsage] - no public name for it


def is_view(target: object) -> bool:
    """Whether the result of an operator may share memory with its first argument."""
    return isinstance(target, OpOverload) and target.is_view


def bind(node: Node) -> dict[str, Any]:
    """Arguments of a call by schema name, in schema order, with defaults for those not given."""
    if not isinstance(node.target, OpOverload):
        return {str(index): value for index, value in enumerate(node.args)} | dict(node.kwargs)
    bound: dict[str, Any] = {}
    for index, argument in enumerate(parameters(node.target)):
        if index < len(node.args):
            bound[argument.name] = node.args[index]
        elif argument.name in node.kwargs:
            bound[argument.name] = node.kwargs[argument.name]
        else:
            bound[argument.name] = argument.default_value if argument.has_default_value() else None
    return bound


def operator_name(node: Node) -> str:
    """``aten.conv2d`` for the default overload, ``aten.add.Tensor`` for another, ``getitem`` for a Python function."""
    if isinstance(node.target, OpOverload):
        return str(node.target).removesuffix(".default")
    return getattr(node.target, "__name__", str(node.target))
