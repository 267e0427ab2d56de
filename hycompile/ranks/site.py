"""One operator of too many dimensions under rewriting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import GraphModule, Node

from hycompile.builder import Builder, Value
from hycompile.permutation import Shape
from hycompile.schema import bind


def rank(node: Node) -> int:
    """The largest rank among a node's results; 0 for none."""
    value: Any = node.meta.get("val")
    tensors = value if isinstance(value, list | tuple) else [value]
    return max((tensor.dim() for tensor in tensors if isinstance(tensor, torch.Tensor)), default=0)


class Site:
    """One node under rewriting: its arguments by name, and its large inputs in their grouped form."""

    def __init__(self, module: GraphModule, node: Node, flat: dict[Node, Value], limit: int) -> None:
        self.node, self.flat, self.limit = node, flat, limit
        self.builder = Builder(module, node, "ranks")
        self.arguments = bind(node)

    def value(self, node: Node) -> Value:
        """A tensor argument, whatever its grouping."""
        return self.flat.get(node, Value(node))

    def grouped(self, node: Node, shape: Sequence[int]) -> Value:
        """The elements of a tensor argument as ``shape``."""
        return self.builder.call("aten.reshape", self.value(node), list(shape))

    def finish(self, result: Value, shape: Shape) -> Value:
        """A result with the shape it should have, unless that is too large: then as it is."""
        if len(shape) > self.limit or result.shape == shape:
            return result
        return self.builder.call("aten.reshape", result, list(shape))

    @property
    def source(self) -> Node:
        """The first tensor argument."""
        return next(argument for argument in self.arguments.values() if isinstance(argument, Node))

    def around(self, dim: int) -> Value:
        """The first tensor argument as [before, dim, after]."""
        shape = shape_of(self.source)
        return self.grouped(self.source, grouped_around(shape, dim % len(shape)))


def shape_of(node: Node) -> Shape:
    """Of a node with one tensor as result."""
    return tuple(node.meta["val"].shape)


def grouped_around(shape: Shape, dim: int) -> Shape:
    """[before, dim, after]."""
    return math.prod(shape[:dim]), shape[dim], math.prod(shape[dim + 1 :])
