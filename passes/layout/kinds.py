"""Which operators can change layout."""

from __future__ import annotations

from torch.fx import Node

from hycompile.passes.layout.chain import static_shape
from hycompile.passes.layout.channels import ChannelMix, FirstNorm, LastNorm
from hycompile.passes.layout.movable import AlongAxis, Concatenation, Elementwise, Movable

KINDS: tuple[Movable, ...] = (ChannelMix(), LastNorm(), AlongAxis(), Concatenation(), Elementwise())
# For targets that compute over channels wherever these lie.
ANYWHERE: tuple[Movable, ...] = (FirstNorm(), *KINDS)


def kind_of(node: Node, kinds: tuple[Movable, ...]) -> Movable | None:
    """How a node changes layout; None if it does not."""
    if node.op != "call_function" or static_shape(node) is None:
        return None
    return next((kind for kind in kinds if kind.takes(node)), None)
