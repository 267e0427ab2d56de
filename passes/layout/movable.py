"""Operators that compute the same in another layout: what they need then, and how they look."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.fx import GraphModule, Node

from hycompile.builder import Builder, Value
from hycompile.passes.layout.chain import static_shape
from hycompile.passes.layout.move import Move, Shape, reshaping
from hycompile.program import constant
from hycompile.schema import bind, is_call

Needs = dict[Node, Move]


@dataclass(frozen=True)
class Layout:
    """Another layout for values of a family of shapes.

    Args:
        base: the move from the graph's layout to the other one, for one shape.
        axis: the dimension whose size is free, such as the channels; None for that one shape only.
    """

    base: Move
    axis: int | None

    def of(self, shape: Shape | None) -> Move | None:
        """The move for a value of this shape; None if it is not of the family."""
        if shape is None or shape == self.base.source:
            return self.base if shape else None
        if self.axis is None or len(shape) != len(self.base.source):
            return None
        others = (shape[: self.axis], shape[self.axis + 1 :])
        own = (self.base.source[: self.axis], self.base.source[self.axis + 1 :])
        return self.base.resized(self.axis, shape[self.axis]) if others == own else None

    @cached_property
    def axes(self) -> dict[int, int]:
        """Where dimensions that arrive whole lie in the other layout."""
        return self.base.axes()

    @property
    def end(self) -> int | None:
        """Where the free dimension lies in the other layout."""
        return None if self.axis is None else self.axes[self.axis]

    @property
    def ends_last(self) -> bool:
        return self.end is not None and self.end == len(self.base.target) - 1

    @property
    def is_image(self) -> bool:
        """Whether the other layout is ``[batch, channels, height, width]``."""
        return self.end == 1 and len(self.base.target) == 4


class Movable(ABC):
    """One kind of operator in another layout. Its result is that of the layout's family."""

    operators: tuple[str, ...] = ()

    def takes(self, node: Node) -> bool:
        """Whether the node is of this kind."""
        return is_call(node, *self.operators)

    @abstractmethod
    def needs(self, module: GraphModule, node: Node, layout: Layout) -> Needs | None:
        """The move each value computed at run time must arrive with; None if the operator cannot change layout."""

    @abstractmethod
    def build(self, build: Builder, node: Node, layout: Layout, values: Mapping[Node, Value]) -> Value:
        """The operator on values that arrive so."""


class Elementwise(Movable):
    """f(m(x), m(y)) = m(f(x, y)), an operand that broadcasts moved likewise."""

    def takes(self, node: Node) -> bool:
        return isinstance(node.target, OpOverload) and torch.Tag.pointwise in node.target.tags

    def needs(self, module: GraphModule, node: Node, layout: Layout) -> Needs | None:
        needs: Needs = {}
        for operand in node.all_input_nodes:
            move = _operand(layout, node, operand)
            if move is None:
                return None
            if constant(module, operand) is None:
                needs[operand] = move
        return needs

    def build(self, build: Builder, node: Node, layout: Layout, values: Mapping[Node, Value]) -> Value:
        def given(argument: Any) -> Any:
            if not isinstance(argument, Node):
                return argument
            if argument in values:
                return values[argument]
            return _moved(build.module, argument, _operand(layout, node, argument))

        keywords = {name: given(value) for name, value in node.kwargs.items()}
        return build.call(node.target, *map(given, node.args), **keywords)  # type: ignore[arg-type]


def _operand(layout: Layout, node: Node, operand: Node) -> Move | None:
    """How an operand moves when the result does."""
    own, shape = static_shape(operand), static_shape(node)
    move = layout.of(shape)
    if own is None or shape is None or move is None or len(own) > len(shape):
        return None
    if own == shape:
        return move
    padded = (1,) * (len(shape) - len(own)) + own
    small = move.broadcast(padded)
    return reshaping(own, padded).then(small) if small is not None else None


def _moved(module: GraphModule, node: Node, move: Move | None) -> Tensor:
    """A constant in the layout it is needed in."""
    tensor = constant(module, node)
    if tensor is None or move is None:
        raise AssertionError(f"{node.name} was found to be a constant that can be moved")
    for kind, argument in move.steps():
        tensor = tensor.reshape(argument) if kind == "reshape" else tensor.permute(argument)
    return tensor


class AlongAxis(Movable):
    """softmax, slice: along a dimension that arrives whole, along it in its new place."""

    operators = ("aten.softmax.int", "aten._softmax", "aten.slice.Tensor")

    def needs(self, module: GraphModule, node: Node, layout: Layout) -> Needs | None:
        bound = bind(node)
        source: Node = bound["self"]
        move = layout.of(static_shape(source))
        if move is None or layout.of(static_shape(node)) is None or bound["dim"] is None:
            return None
        return {source: move} if bound["dim"] % len(move.source) in layout.axes else None

    def build(self, build: Builder, node: Node, layout: Layout, values: Mapping[Node, Value]) -> Value:
        bound = bind(node)
        dim = layout.axes[bound["dim"] % len(layout.base.source)]
        bound |= {"self": values[bound["self"]], "dim": dim}
        return build.call(node.target, *bound.values())  # type: ignore[arg-type]


class Concatenation(Movable):
    """cat(m(x), m(y)) = m(cat(x, y)) along the free dimension."""

    operators = ("aten.cat",)

    def needs(self, module: GraphModule, node: Node, layout: Layout) -> Needs | None:
        bound = bind(node)
        needs: Needs = {}
        for tensor in bound["tensors"]:
            move = layout.of(static_shape(tensor))
            if move is None or constant(module, tensor) is not None:
                return None
            needs[tensor] = move
        along = layout.axis is not None and bound["dim"] % len(layout.base.source) == layout.axis
        return needs if along else None

    def build(self, build: Builder, node: Node, layout: Layout, values: Mapping[Node, Value]) -> Value:
        return build.call("aten.cat", [values[tensor] for tensor in bind(node)["tensors"]], layout.end)
