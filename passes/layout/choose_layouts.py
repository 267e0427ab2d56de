"""Regions of a graph computed in the layout in which less is moved."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch.fx import Graph, GraphModule, Node

from hycompile.builder import Builder, Value
from hycompile.passes.layout.chain import MOVES
from hycompile.passes.layout.cost import Weights
from hycompile.passes.layout.ends import swappable
from hycompile.passes.layout.kinds import kind_of
from hycompile.passes.layout.movable import Layout
from hycompile.passes.layout.move import Move, permuting, reshaping
from hycompile.passes.layout.region import Region
from hycompile.passes.layout.uses import Use, Uses
from hycompile.rewrite import erase_dead
from hycompile.schema import is_call

NAME = "choose_layouts"


def choose_layouts(module: GraphModule, weights: Weights) -> int:
    """m'(f(m(x))) = f'(x): operators between moves compute in the layout in which fewer elements are copied.

    Given: a move, and operators next to it that compute the same in the layout on its other side: element-wise ones,
    linear and 1 x 1 convolution (one becomes the other), layer norm, softmax, slice and concatenation.
    Result: of every connected set of them, those computed in the other layout whose change makes the set cheaper, with
    the moves at its border composed with what is there. Constants are moved when this is built.

    Returns:
        How many operators changed layout.
    """
    total, found = 0, _found(module, weights)
    while found:
        total += _apply(module, found)
        found = _found(module, weights)
    return total


@dataclass(frozen=True)
class _Change:
    """Operators of a region that change layout, and what is saved."""

    region: Region
    changed: set[Node]
    gain: int


def _found(module: GraphModule, weights: Weights) -> list[_Change]:
    """Every region that gains by one of the layouts that moves suggest; what gains most comes first."""
    uses, tried, found = Uses.of(module), set[object](), list[_Change]()
    attention = swappable(module) if weights.anywhere else {}
    for node in module.graph.nodes:
        for use in uses.by_argument.get(node, []) if is_call(node, *MOVES) else []:
            for layout, seed in _candidates(use, weights):
                if (layout, seed) in tried:
                    continue
                region = Region.around(module, uses, layout, seed, weights, attention)
                tried.update((layout, member) for member in [seed, *region.needs])
                changed, gain = region.choose()
                if changed:
                    found.append(_Change(region, changed, gain))
    return sorted(found, key=lambda change: -change.gain)


def _apply(module: GraphModule, found: Iterable[_Change]) -> int:
    """Make the changes that have nothing to do with one made before; returns how many operators they are."""
    touched, total = set[Node](), 0
    for change in found:
        reached = change.region.reached()
        if touched.isdisjoint(reached):
            _Rewriter(module, change.region, change.changed).run()
            touched |= reached
            total += len(change.changed)
    return total


def _candidates(use: Use, weights: Weights) -> Iterable[tuple[Layout, Node]]:
    """Layouts that would make the move needless, with the free dimension at each end of what arrives whole.

    Where a target computes over channels anywhere, tokens may have theirs first too.
    """
    move = use.move
    if move is None or move.is_identity:
        return
    for base, seed in ((move.inverse(), use.user), (move, use.origin)):
        rank = len(base.source)
        axes = [axis for axis in dict.fromkeys((rank - 1, 1)) if axis in base.axes()]
        for axis in [*axes, None]:
            yield Layout(base, axis), seed
            if axis is not None and base.axes()[axis] == 1 and len(base.target) == 3:
                yield Layout(_as_image(base), axis), seed
        if weights.anywhere and rank == 3:
            yield Layout(_as_image(permuting(base.source, (0, 2, 1))), 2), seed


def _as_image(base: Move) -> Move:
    """Channels before a row of positions are an image of width one, which a convolution takes."""
    whole = base.then(reshaping(base.target, (*base.target, 1)))
    if whole is None:
        raise AssertionError("a size of one cuts across nothing")
    return whole


class _Rewriter:
    """Rebuilds the chosen operators of a region in the other layout."""

    def __init__(self, module: GraphModule, region: Region, changed: set[Node]) -> None:
        self.module, self.region, self.changed = module, region, changed
        self.new: dict[Node, Value] = {}
        self.forms: dict[tuple[Node, Move], Value] = {}
        self.copies: dict[tuple[Node, object], tuple[Value, Move]] = {}

    def run(self) -> None:
        order = list(self.module.graph.nodes)
        for node in order:
            if node in self.changed:
                self._rebuild(node)
        for node in self.changed:
            for use in self.region.uses.by_origin.get(node, []):
                if use.user not in self.changed:
                    use.user.replace_input_with(use.argument, self._argument(use).node)
        for node in reversed(order):
            if not node._erased and node.op == "call_function" and not node.users:
                erase_dead(self.module, node)
        self.module.graph.lint()
        self.module.recompile()

    def _rebuild(self, node: Node) -> None:
        kind, uses = kind_of(node, self.region.kinds), self.region.uses.by_user.get(node, [])
        if kind is None:
            raise AssertionError(f"{node.name} is in a region, so it changes layout")
        values = {use.argument: self._argument(use) for use in uses}
        self.new[node] = kind.build(Builder(self.module, node, NAME), node, self.region.layout, values)

    def _argument(self, use: Use) -> Value:
        """The argument in the form its user needs, made where its origin is, once for all that need it."""
        move = self.region.required(use, self.changed)
        if move is None:
            raise AssertionError(f"{use.argument.name} has no such form, which costs more than any other")
        origin = self.new.get(use.origin, Value(use.origin))
        if (use.origin, move) not in self.forms:
            self.forms[use.origin, move] = self._form(origin, move, use)
        return self.forms[use.origin, move]

    def _form(self, origin: Value, move: Move, use: Use) -> Value:
        build = Builder(self.module, use.argument, NAME)
        key = (origin.node, (move.atoms, move.order))
        if not move.is_view and key in self.copies:
            known, done = self.copies[key]
            if done.target == move.target:
                return known
            return build.call("aten.reshape", known, list(move.target), after=known)
        value, place = origin, _after_inputs(self.module.graph, origin)
        for kind, argument in move.steps():
            value = place = build.call(f"aten.{kind}", value, list(argument), after=place)
        if not move.is_view:
            self.copies[key] = value, move
        return value


def _after_inputs(graph: Graph, value: Value) -> Value:
    """Where nodes that use ``value`` may begin: not among the inputs."""
    if value.node.op != "placeholder":
        return value
    return Value([node for node in graph.nodes if node.op == "placeholder"][-1])
