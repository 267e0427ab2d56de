"""Which constants change so that one value comes out scaled and no other value does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from torch.fx import Node

from hycompile.passes.fold_multipliers.absorbers import Change
from hycompile.passes.fold_multipliers.factor import Factor
from hycompile.passes.fold_multipliers.pieces import pieces_read
from hycompile.passes.fold_multipliers.ways import may_pass, ways
from hycompile.rewrite import Refused, require

_STEPS = 2000
Need = tuple[Node, Node, Factor]
"""``(reader, node, factor)``: the reader needs the node scaled."""


@dataclass(frozen=True)
class Plan:
    """Scaled values with their factors, who reads them so, and the changes that scale them."""

    factors: dict[Node, Factor] = field(default_factory=dict[Node, Factor])
    readers: frozenset[tuple[Node, Node]] = frozenset()
    changes: tuple[Change, ...] = ()

    def make(self) -> None:
        """Change the constants; only after every ``require`` of the rewrite has passed."""
        for change in self.changes:
            change.make()


def find_plan(multiplier: Node, x: Node, factor: Factor) -> Plan:
    """The plan after which ``x`` is what ``multiplier``, its only reader then, computes of it now.

    Raises:
        Refused: there is none: a value on the way is no linear function of constants free to change, or others read it.
    """
    search = _Search()
    return search.extend(Plan(), [(multiplier, x, factor)])


class _Search:
    """Depth first over the ways to scale each value; a value that others need unscaled ends a branch."""

    def __init__(self) -> None:
        self.steps = 0

    def extend(self, plan: Plan, pending: list[Need]) -> Plan:
        """``plan`` with everything that is pending, and closed: no reader sees a factor it did not ask for."""
        self.steps += 1
        require(self.steps <= _STEPS, "more than {} steps lead to no end", _STEPS)
        if not pending:
            _require_closed(plan)
            return plan
        (reader, node, factor), rest = pending[0], pending[1:]
        readers = plan.readers | {(reader, node)}
        known = plan.factors.get(node)
        if known is not None:
            require(known.equals(factor), "{} would be scaled in two ways", node.name)
            return self.extend(Plan(plan.factors, readers, plan.changes), rest)
        _require_no_stranger(node, readers)
        refusals: list[Refused] = []
        for way in ways(node, factor):
            changes = plan.changes if way.change is None else (*plan.changes, way.change)
            try:
                return self.extend(Plan(plan.factors | {node: factor}, readers, changes), [*way.needs, *rest])
            except Refused as refusal:
                refusals.append(refusal)
        raise refusals[0]


def _require_no_stranger(node: Node, readers: Iterable[tuple[Node, Node]]) -> None:
    """A user that no factor can pass sees the scaled value; found here, it saves the search of everything before."""
    strangers = [user for user in node.users if (user, node) not in readers and not may_pass(user)]
    require(not strangers, "{} has {} users, the others need it without the multiplier", node.name, len(node.users))


def _require_closed(plan: Plan) -> None:
    for node, factor in plan.factors.items():
        for user in node.users:
            asked = (user, node) in plan.readers or _reads_unscaled(plan, node, user, factor)
            reason = "{} has {} users, the others need it without the multiplier"
            require(asked, reason, node.name, len(node.users))


def _reads_unscaled(plan: Plan, node: Node, user: Node, factor: Factor) -> bool:
    """Whether ``user`` takes pieces of ``node``, each scaled as asked or not scaled at all."""
    pieces = pieces_read(user)
    return bool(pieces) and all(
        (piece.node, node) in plan.readers
        or (piece.axis == factor.axis and bool((factor.scale[piece.start : piece.end] == 1).all()))
        for piece in pieces
    )
