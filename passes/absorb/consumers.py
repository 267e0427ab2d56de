"""The linear operators that every use of a value ends in, through operators that an affine map may pass."""

from __future__ import annotations

from torch.fx import Node

from hycompile.passes.absorb.operator import LINEAR, LinearOperator, linear_operator
from hycompile.passes.absorb.paths import Axis, passes_down
from hycompile.passes.affine import Affine
from hycompile.rewrite import require
from hycompile.schema import bind, is_call, operator_name


def find_consumers(node: Node, axis: Axis, affine: Affine, subject: str) -> list[LinearOperator]:
    """Every linear operator the uses of ``node`` end in; refused if one of them does not, or cannot take the map.

    Args:
        node: the map's output.
        axis: where its channels lie.
        affine: the map.
        subject: what it is, for the reason of a refusal: ``"the batch norm"``.
    """
    found: dict[Node, LinearOperator] = {}
    for user in node.users:
        if is_call(user, *LINEAR) and _reads_once(user, node):
            found[user] = _consumer(user, axis, affine, subject)
            continue
        passes, after = passes_down(user, node, axis, affine)
        name = operator_name(user)
        require(passes, "{} uses it and is neither linear nor a move that keeps the channel axis", name)
        for operator in find_consumers(user, after, affine, subject):
            require(operator.node not in found, "{} sees {} through two factors", operator.node.name, subject)
            found[operator.node] = operator
    require(found, "nothing uses it")
    return list(found.values())


def _reads_once(operator: Node, source: Node) -> bool:
    a = bind(operator)
    return a["input"] is source and a["weight"] is not source and a["bias"] is not source


def _consumer(node: Node, axis: Axis, affine: Affine, subject: str) -> LinearOperator:
    operator = linear_operator(node, axis, subject, "{} mixes")
    if operator.transposed:
        require(not affine.shifts, "{} is transposed: at its borders it does not see the whole shift", node.name)
    if operator.shifted_border(affine):
        sizes = tuple(bind(node)["input"].meta["val"].shape[2:])
        static = all(isinstance(size, int) for size in sizes)
        reason = "{} is padded and its input size {} is dynamic: the bias map needs a fixed one"
        require(static, reason, node.name, sizes)
    return operator
