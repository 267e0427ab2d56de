"""Attention that takes queries, keys and values, and gives its result, with the last two axes either way round.

Targets whose matrix products transpose an operand for nothing compute it so: q k^T and p v need no permute for it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch.fx import GraphModule, Node

from hycompile.builder import Builder, Value
from hycompile.masks import masked_row
from hycompile.passes.layout.chain import give_away, static_shape
from hycompile.passes.layout.cost import Weights
from hycompile.passes.layout.move import Move, Shape, permuting
from hycompile.passes.layout.uses import Use, Uses
from hycompile.schema import bind, is_call

NAME = "swap_ends"


@dataclass(frozen=True)
class Crossing:
    """A move as ``swap(move(swap(x)))``, in which a swap of the last two axes at either end costs nothing."""

    move: Move
    before: bool = False
    after: bool = False


# Each attention whose ends can be swapped, with its queries, keys and values.
Attention = dict[Node, frozenset[Node]]


def swappable(module: GraphModule) -> Attention:
    """Attention whose products may be taken apart: no row can be masked as a whole, and every size is known."""
    found = [node for node in module.graph.nodes if is_call(node, "aten.scaled_dot_product_attention")]
    return {node: frozenset(_operands(node)) for node in found if _is_plain(module, node)}


def _operands(attention: Node) -> list[Node]:
    bound = bind(attention)
    return [bound["query"], bound["key"], bound["value"]]


def _is_plain(module: GraphModule, attention: Node) -> bool:
    bound = bind(attention)
    if bound["is_causal"] or bound["enable_gqa"] or bound["dropout_p"]:
        return False
    fixed = all(static_shape(end) is not None for end in (attention, *_operands(attention)))
    return fixed and masked_row(module, attention) is None


def cheapest(uses: Uses, use: Use, move: Move, attention: Attention, weights: Weights) -> Crossing:
    """How a move goes from its origin to its user, where either may be attention."""
    found = [Crossing(move)]
    if use.argument in attention.get(use.user, ()):
        _add(found, move.then(_swap(move.target)), Crossing(move, after=True))
    if use.origin in attention and len(uses.by_origin[use.origin]) == 1:
        _add(found, _swap(_swap(move.source).target).then(move), Crossing(move, before=True))
    return min(found, key=lambda crossing: weights.of(crossing.move))


def _add(found: list[Crossing], move: Move | None, like: Crossing) -> None:
    if move is not None:
        found.append(replace(like, move=move))


def _swap(shape: Shape) -> Move:
    return permuting(shape, _order(shape))


def _order(shape: Shape) -> list[int]:
    *lead, row, column = range(len(shape))
    return [*lead, column, row]


def swap_ends(module: GraphModule, weights: Weights) -> int:
    """Let attention take and give what lies next to it, where that saves a move.

    Returns:
        How many of its ends changed.
    """
    if not weights.anywhere:
        return 0
    attention, changed = swappable(module), 0
    for node in attention:
        uses = Uses.of(module)
        for use in [*uses.by_user.get(node, []), *uses.by_origin.get(node, [])]:
            if use.move is not None:
                crossing = cheapest(uses, use, use.move, attention, weights)
                changed += _cross(module, use, crossing)
    module.graph.eliminate_dead_code()
    module.recompile()
    return changed


def _cross(module: GraphModule, use: Use, crossing: Crossing) -> bool:
    if not (crossing.before or crossing.after):
        return False
    build, value = Builder(module, use.user, NAME), Value(use.origin)
    if crossing.before:
        value = give_away(build.call("aten.permute", value, _order(value.shape)))
    for kind, argument in crossing.move.steps():
        value = build.call(f"aten.{kind}", value, list(argument))
    if crossing.after:
        value = give_away(build.call("aten.permute", value, _order(value.shape)))
    use.user.replace_input_with(use.argument, value.node)
    return True
