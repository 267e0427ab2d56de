"""The linear or convolution that a value is, but for moves: what queries, keys and values come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.fx import GraphModule, Node

from hycompile.passes.affine import CONVOLUTIONS, channel_axis
from hycompile.passes.fuse_conv_attention.layout import MOVES, Layout
from hycompile.pattern import Captures, Pattern
from hycompile.program import constant
from hycompile.rewrite import require
from hycompile.schema import bind, is_call


@dataclass(frozen=True)
class Projection:
    """A linear or convolution and the moves behind it, in graph order.

    Args:
        node: the linear or convolution.
        moves: reshapes, permutes and transposes from there to the value.
        end: the value itself.
    """

    node: Node
    moves: tuple[Node, ...]
    end: Node

    def constants(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias; refuses those that run time computes."""
        module: Any = self.node.graph.owning_module
        a = bind(self.node)
        weight, bias = constant(module, a["weight"]), constant(module, a["bias"])
        require(weight is not None, "the weight of {} is not a constant", self.node.name)
        require(bias is not None or a["bias"] is None, "the bias of {} is not a constant", self.node.name)
        return weight, bias  # type: ignore[return-value]

    def channels(self) -> int:
        """The axis of the projection's output that holds channels."""
        axis = channel_axis(self.node)
        require(axis is not None, "{} works without a batch axis", self.node.name)
        return axis  # type: ignore[return-value]

    def layout(self) -> Layout:
        """Where the axes of the projection's output stand in the value."""
        layout: Layout | None = Layout.of(self.node.meta["val"].shape)
        for move in self.moves:
            layout = layout.through(move) if layout is not None else None
        require(layout is not None, "the moves behind {} join channels with other axes", self.node.name)
        return layout  # type: ignore[return-value]

    def require_one_user(self) -> None:
        """Refuses where anyone else sees the projection or a move behind it."""
        for node in (self.node, *self.moves):
            users = len(node.users)
            require(users == 1, "{} has {} users, the others need it as it is", node.name, users)


@dataclass(frozen=True)
class Projected(Pattern):
    """A value that is a linear or convolution, but for moves; arrives as a :class:`Projection`."""

    name: str
    biased: bool = False

    def match(self, module: GraphModule, value: object, captures: Captures) -> Captures | None:
        moves: list[Node] = []
        node = value
        while isinstance(node, Node) and is_call(node, *MOVES):
            moves.insert(0, node)
            node = node.args[0]
        if not isinstance(node, Node) or not isinstance(value, Node) or not is_call(node, *CONVOLUTIONS, "aten.linear"):
            return None
        if self.biased and bind(node)["bias"] is None:
            return None
        return captures | {self.name: Projection(node, tuple(moves), value)}

    def names(self) -> set[str]:
        return {self.name}

    def depth(self) -> int:
        # As far as moves were seen to go between a projection and its attention: reshape, permute, select, reshape.
        return 4
