"""When two calls are the same call."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch
from torch.fx import Node
from torch.utils import _pytree as pytree


@dataclass(frozen=True)
class _Named:
    name: Hashable


def call_key(node: Node, name: Callable[[Node], Hashable]) -> Hashable:
    """Equal for calls of one operator with equal arguments, where ``name`` tells which values are equal.

    Random operators are equal to themselves alone.
    """
    if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
        return node
    given = (node.args, node.kwargs)
    named = pytree.tree_map(lambda value: _Named(name(value)) if isinstance(value, Node) else value, given)
    return node.target, repr(named)
