"""The linear operator a value comes from, through operators that an affine map may pass."""

from __future__ import annotations

from dataclasses import dataclass

from torch.fx import Node

from hycompile.builder import Value, call
from hycompile.passes.absorb.operator import LINEAR, LinearOperator, linear_operator
from hycompile.passes.absorb.paths import Axis, passes_up
from hycompile.passes.affine import Affine
from hycompile.rewrite import Refused, require
from hycompile.schema import is_call, operator_name


@dataclass(frozen=True)
class Producer:
    """A linear operator and the path from it, nearest to the map first: nodes, each with the input the path takes."""

    operator: LinearOperator
    path: tuple[tuple[Node, Node], ...]

    def fold(self, affine: Affine) -> Value:
        """The end of the path with ``affine`` in the operator's weight and bias; new nodes throughout."""
        result = self.operator.then(affine)
        for node, source in reversed(self.path):
            args = [_replaced(given, source, result) for given in node.args]
            result = call(node.target, *args, **node.kwargs)  # type: ignore[arg-type]
        return result


def _replaced(given: object, source: Node, result: Value) -> object:
    if given is source:
        return result
    return Value(given) if isinstance(given, Node) else given


def find_producer(node: Node, axis: Axis, affine: Affine, subject: str) -> Producer:
    """The linear operator that can compute ``affine`` of ``node`` by other weights.

    Args:
        node: the map's input.
        axis: where its channels lie.
        affine: the map.
        subject: what it is, for the reason of a refusal: ``"the batch norm"``.
    """
    if is_call(node, *LINEAR):
        _require_single(node, subject)
        return Producer(linear_operator(node, axis, subject, "the channels of {} lie on"), ())
    ways = _ways_up(node, axis, affine)
    require(ways, "{} is neither linear nor a move that keeps the channel axis", operator_name(node))
    _require_single(node, subject)
    refusals: list[Refused] = []
    for source, before in ways:
        try:
            found = find_producer(source, before, affine, subject)
        except Refused as refusal:
            refusals.append(refusal)
        else:
            return Producer(found.operator, ((node, source), *found.path))
    raise refusals[0]


def _ways_up(node: Node, axis: Axis, affine: Affine) -> list[tuple[Node, Axis]]:
    """The inputs of ``node`` that the map may be applied to instead, each with its axis there."""
    if node.op != "call_function":
        return []
    ways = [(source, *passes_up(node, source, axis, affine)) for source in node.all_input_nodes]
    return [(source, before) for source, passes, before in ways if passes]


def _require_single(node: Node, subject: str) -> None:
    users = len(node.users)
    require(users == 1, "{} has {} users, the others need it without {}", node.name, users, subject)
