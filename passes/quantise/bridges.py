"""Bridge blocks: where feature maps become tokens, and tokens feature maps again."""

from __future__ import annotations

from dataclasses import dataclass

from torch.fx import Node

from hycompile.passes.quantise.layers import Layer
from hycompile.quantisation.nodes import PRODUCTS
from hycompile.schema import is_call

_ATTENTION = "aten.scaled_dot_product_attention"
_ON_MAPS = ("aten.conv2d", "aten.conv2d.padding", "aten.conv_transpose2d.input")
_SUMS = ("aten.add.Tensor", "aten.sub.Tensor", "aten.cat")


@dataclass(frozen=True)
class Bridge:
    """From the last operator on one form to the first ones on the other.

    Args:
        first: the layer it starts with: a convolution of feature maps, or the last linear on tokens.
        nodes: what is computed behind it, in graph order, up to and with ``ends``.
        ends: the first operators that compute on the other form; their outputs are the block's.
    """

    first: Layer
    nodes: tuple[Node, ...]
    ends: tuple[Node, ...]


def bridges(layers: list[Layer]) -> list[Bridge]:
    """The bridge blocks of a method, each from one layer.

    A path ends at the next operator that multiplies by weights or multiplies two values. Sums with other branches are
    crossed: a residual stream carries feature maps on to the tokens of the next block; but of several layers that a sum
    joins, only the last one before it starts a block.
    """
    order = {node: at for at, node in enumerate(layers[0].node.graph.nodes)} if layers else {}
    by_node = {layer.node: layer for layer in layers}
    found: list[Bridge] = []
    for layer in layers:
        ends, between = _ahead(layer.node, order, by_node)
        crossing = tuple(end for end in ends if _changes_form(layer.node, end))
        if not crossing:
            continue
        nodes = set(crossing)
        for node in sorted(between, key=order.__getitem__, reverse=True):
            if not nodes.isdisjoint(node.users):
                nodes.add(node)
        found.append(Bridge(layer, tuple(sorted(nodes, key=order.__getitem__)), crossing))
    return found


def _ahead(node: Node, order: dict[Node, int], layers: dict[Node, Layer]) -> tuple[list[Node], set[Node]]:
    """The operators that a value reaches with no other in between, and the nodes it passes on the way."""
    ends, between, pending = dict[Node, None](), set[Node](), list(node.users)
    while pending:
        user = pending.pop()
        if user in between or user in ends or user.op != "call_function":
            continue
        if user in layers or is_call(user, _ATTENTION, *PRODUCTS):
            ends[user] = None
        elif is_call(user, *_SUMS) and _joined_later(user, node, order, layers):
            continue
        else:
            between.add(user)
            pending += user.users
    return sorted(ends, key=order.__getitem__), between


def _joined_later(total: Node, node: Node, order: dict[Node, int], layers: dict[Node, Layer]) -> bool:
    """Whether a sum adds what a later layer than ``node`` computes."""
    pending, seen = list(total.all_input_nodes), set[Node]()
    while pending:
        source = pending.pop()
        if source in seen or order[source] <= order[node]:
            continue
        seen.add(source)
        if source in layers:
            return True
        pending += source.all_input_nodes
    return False


def _changes_form(one: Node, other: Node) -> bool:
    return (is_call(one, *_ON_MAPS) and _on_tokens(other)) or (is_call(other, *_ON_MAPS) and _on_tokens(one))


def _on_tokens(node: Node) -> bool:
    """Whether an operator computes on tokens: it is no convolution, and gives more than a vector for each sample."""
    return not is_call(node, *_ON_MAPS) and node.meta["val"].ndim >= 3
