"""Transposes and permutes next to each other."""

from __future__ import annotations

from torch.fx import GraphModule, Node

from hycompile.builder import Value, call
from hycompile.passes.fuse_conv_attention.layout import MOVES, Layout, laid_out, order_of, route
from hycompile.pattern import Call, Captures
from hycompile.rewrite import rule
from hycompile.schema import is_call

_PERMUTES = ("aten.permute", "aten.transpose.int")


def permuted(value: Value, order: list[int]) -> Value:
    """``permute(value, order)``, joined with a permute that ``value`` is; the value itself where nothing moves."""
    while is_call(value.node, *_PERMUTES):
        inner = order_of(value.node, len(order))
        value, order = value["self"], [inner[axis] for axis in order]
    return value if order == sorted(order) else call("aten.permute", value, order)


def transposed(value: Value) -> Value:
    """``value`` with its last two axes swapped."""
    rank = len(value.shape)
    return permuted(value, [*range(rank - 2), rank - 1, rank - 2])


class _Detour(Call):
    """Moves in a row that take more steps than a reshape, a permute and a reshape need."""

    def match(self, module: GraphModule, value: object, captures: Captures) -> Captures | None:
        found = super().match(module, value, captures)
        if found is None or not isinstance(value, Node):
            return None
        chain = _chain(value)
        source = Value(chain[0].args[0])  # type: ignore[arg-type]
        layout: Layout | None = Layout.of(source.shape)
        for move in chain:
            layout = layout.through(move) if layout is not None else None
        shorter = route(source, layout) if layout is not None else None
        if shorter is None or shorter.steps >= len(chain):
            return None
        return found | {"source": source, "layout": layout}

    def names(self) -> set[str]:
        return super().names() | {"source", "layout"}

    def depth(self) -> int:
        return 4


def _chain(last: Node) -> list[Node]:
    """The moves that end in ``last`` and that nothing else sees, in graph order."""
    chain = [last]
    while is_call(chain[0].args[0], *MOVES) and len(chain[0].args[0].users) == 1:  # type: ignore[union-attr]
        chain.insert(0, chain[0].args[0])  # type: ignore[arg-type]
    return chain


@rule(_Detour(MOVES), source="reshapes and permutes are permutations of elements; they compose")
def shorten_moves(source: Value, layout: Layout) -> Value:
    """move_n(.. move_1(x)) = reshape(permute(reshape(x)))  with as few of the three as it takes.

    Given: reshapes, permutes and transposes in a row that nobody else uses, such as a five-axis value between a
    projection and its heads, or keys transposed twice.
    Result: the same permutation of elements in fewer steps; none at all where they undo each other.
    """
    result = laid_out(source, layout)
    assert result is not None
    return result
