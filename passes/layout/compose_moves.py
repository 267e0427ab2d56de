"""Chains of reshapes and permutes in their shortest form."""

from __future__ import annotations

from torch.fx import GraphModule, Node

from hycompile.builder import Value, call
from hycompile.passes.layout.chain import MOVES, ancestors, move_of
from hycompile.passes.layout.move import Move
from hycompile.pattern import Any, Call, Captures
from hycompile.rewrite import rule


class _Improvable(Call):
    """The end of a chain of moves that has a shorter form: captures the best start of the chain, and the whole move."""

    def match(self, module: GraphModule, value: object, captures: Captures) -> Captures | None:
        found = super().match(module, value, captures)
        if found is None or not isinstance(value, Node):
            return None
        gains = [(_gain(value, origin, move), origin, move) for origin, move in ancestors(value)]
        gain, origin, move = max(gains, key=lambda entry: entry[0], default=((0, 0), None, None))
        return found | {"origin": origin, "move": move} if gain > (0, 0) else None

    def names(self) -> set[str]:
        return super().names() | {"origin", "move"}


def _gain(last: Node, origin: Node, move: Move) -> tuple[int, int]:
    """Elements no longer copied, and operators fewer, when ``move`` replaces the chain; shared parts of it stay."""
    elements, operators, node = -move.elements, -len(move.steps()), last
    while node is not origin and (node is last or len(node.users) == 1):
        own = move_of(node)
        elements += own.elements if own is not None else 0
        operators += 1
        node = node.all_input_nodes[0]
    return elements, operators


@rule(
    _Improvable(MOVES, self=Any()),
    source="moves are permutations of the factors of a position, and permutations compose",
)
def compose_moves(origin: Node, move: Move) -> Value:
    """m_k(...m_1(x)) = reshape(permute(reshape(x))), or a permute, a reshape or x alone, where that is the product.

    Given: reshapes and permutes after one another, or a permute that only moves sizes of one.
    Result: at most three operators that copy at most once, if they copy less, or no more and are fewer. What lies
    between and has other users stays. A size that depends on the input leaves a chain as it is.
    """
    result = Value(origin)
    for kind, argument in move.steps():
        result = call(f"aten.{kind}", result, list(argument))
    return result
