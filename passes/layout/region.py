"""A set of operators that can change layout together, and the choice of those that should."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from torch.fx import GraphModule, Node

from hycompile.passes.layout.chain import static_shape
from hycompile.passes.layout.cost import Weights
from hycompile.passes.layout.ends import Attention, cheapest
from hycompile.passes.layout.kinds import ANYWHERE, KINDS, kind_of
from hycompile.passes.layout.movable import Layout, Movable, Needs
from hycompile.passes.layout.move import Move
from hycompile.passes.layout.uses import Use, Uses

# A choice that is not there, such as a move that is no permutation of factors.
_NEVER = 1 << 60
_LARGEST = 400
# Channels and positions of an image change places, behind a batch of one or more.
_CHANNELS_TO_POSITIONS = ((1, 0), (0, 2, 1))


@dataclass
class Region:
    """Operators that can compute in another layout, connected by values that need no move between them, or
    by a move that they share.

    Args:
        layout: the other layout.
        needs: for each operator the moves its arguments arrive with when it has changed.
        attention: whose ends are swapped for nothing.
    """

    uses: Uses
    layout: Layout
    needs: dict[Node, Needs]
    weights: Weights
    attention: Attention

    @property
    def kinds(self) -> tuple[Movable, ...]:
        """The operators that can change layout on the target."""
        return ANYWHERE if self.weights.anywhere else KINDS

    @classmethod
    def around(
        cls, module: GraphModule, uses: Uses, layout: Layout, seed: Node, weights: Weights, attention: Attention
    ) -> Region:
        """The largest region that holds ``seed``; empty if that cannot change."""
        region = cls(uses, layout, {}, weights, attention)
        pending = deque([seed])
        while pending and len(region.needs) < _LARGEST:
            node = pending.popleft()
            kind = kind_of(node, region.kinds)
            if node in region.needs or kind is None or layout.of(static_shape(node)) is None:
                continue
            needs = kind.needs(module, node, layout)
            if needs is None or any(use.move is None for use in uses.by_user.get(node, [])):
                continue
            region.needs[node] = needs
            pending.extend(use.user for use in uses.by_origin.get(node, []) if use.move and use.move.is_identity)
            for use in uses.by_user.get(node, []):
                if use.move and use.move.is_identity:
                    pending.append(use.origin)
                # Queries, keys and values share the move of what they are projected from.
                pending.extend(other.user for other in uses.by_origin[use.origin] if other.move == use.move)
        return region

    def required(self, use: Use, changed: set[Node]) -> Move | None:
        """The move from the origin, as it then is, to the argument, as it then is needed; None if there is none."""
        move = use.move
        if move is not None and use.origin in changed:
            own = self.layout.of(static_shape(use.origin))
            move = own.inverse().then(move) if own is not None else None
        if move is not None and use.user in changed:
            move = move.then(self.needs[use.user][use.argument])
        return move

    def reached(self) -> set[Node]:
        """Every operator of the region and next to it."""
        before = {use.origin for node in self.needs for use in self.uses.by_user.get(node, [])}
        return before | {use.user for origin in before | set(self.needs) for use in self.uses.by_origin.get(origin, [])}

    def choose(self) -> tuple[set[Node], int]:
        """The operators that should change, and what that saves.

        They are what no single change makes cheaper, from all or from none of them.
        """
        kept = least = self._cost(set(), set(self.needs))
        if not kept:  # No cost is less than none.
            return set(), 0
        best = set[Node]()
        for start in (set(self.needs), set[Node]()):
            changed = self._improved(start)
            cost = self._cost(changed, set(self.needs))
            if cost < least:
                best, least = changed, cost
        return best, kept - least

    def _improved(self, changed: set[Node]) -> set[Node]:
        """Change operators one by one, and again those next to a change, as long as the cost falls."""
        changed, queue = set(changed), deque(self.needs)
        queued = set(queue)
        while queue:
            node = queue.popleft()
            queued.discard(node)
            if self._cost(changed ^ {node}, {node}) < self._cost(changed, {node}):
                changed ^= {node}
                near = [neighbour for neighbour in self._near(node) if neighbour in self.needs]
                queue.extend(neighbour for neighbour in near if neighbour not in queued)
                queued.update(near)
        return changed

    def _near(self, node: Node) -> list[Node]:
        before = [use.origin for use in self.uses.by_user.get(node, [])]
        siblings = [use.user for origin in before for use in self.uses.by_origin[origin]]
        return [*before, *siblings, *(use.user for use in self.uses.by_origin.get(node, []))]

    def _cost(self, changed: set[Node], nodes: set[Node]) -> int:
        """Of every value that ``nodes`` use or make."""
        origins = {use.origin for node in nodes for use in self.uses.by_user.get(node, [])} | nodes
        return sum(self._cost_of(origin, changed) for origin in origins)

    def _cost_of(self, origin: Node, changed: set[Node]) -> int:
        """Of one value in every form it is needed in: forms that differ in their view share a copy."""
        copies, forms = dict[object, int](), set[Move]()
        for use in self.uses.by_origin.get(origin, []):
            move = self.required(use, changed)
            if move is None:
                if use.user in changed or origin in changed:
                    return _NEVER
                continue
            if self.attention:
                move = cheapest(self.uses, use, move, self.attention, self.weights).move
            if not self._is_free(use, move, changed):
                copies[move.atoms, move.order] = 2 * move.elements
                forms.add(move)
        return sum(copies.values()) + self.weights.operator * sum(len(form.steps()) for form in forms)

    def _is_free(self, use: Use, move: Move, changed: set[Node]) -> bool:
        """Whether a move between tokens and an image that lies channels-last is none in memory."""
        if not self.weights.channels_last or move.order not in _CHANNELS_TO_POSITIONS:
            return False
        from_image = self._is_image(use.origin, changed) and len(move.target) < 4
        to_image = self._is_image(use.user, changed) and len(move.source) < 4
        return from_image or to_image

    def _is_image(self, node: Node, changed: set[Node]) -> bool:
        shape = static_shape(node)
        return self.layout.is_image if node in changed else shape is not None and len(shape) == 4
