"""The state path: weights of the layers that say what a recurrence keeps, forgets and writes.

A recurrence multiplies its state by a decay at every token, so that an error there is made again at each of them, and
adds up. The layers that make decays, step sizes and the projections beside them are small; kept in float they cost
nothing. They are known before recurrences are written out as plain operators, and marked then.
"""

from __future__ import annotations

from torch.fx import GraphModule, Node

import hycompile.recurrence.operators  # noqa: F401  # pyright: ignore[reportUnusedImport] - registers operators
from hycompile.schema import bind, is_call

# Operator -> the arguments that decide over the state. Queries, keys and values of linear attention are not among them:
# they are the larger part of such a layer, and are read as those of an attention are.
_RECURRENCES = {
    "hycompile.selective_scan": ("dt", "a", "b", "c"),
    "hycompile.linear_recurrence": ("log_decay", "beta"),
}
_CONVOLUTION = "hycompile.causal_conv"
_MARK = "state_path"


def mark_state_path(module: GraphModule) -> int:
    """Mark the weights of linears whose results reach nothing but a recurrence's decision over its state.

    Weights of the short convolutions before recurrences are marked, too. What is marked stays so where recurrences have
    been lowered since. Returns how many weights are marked.
    """
    only: set[Node] = set()
    for node in reversed(module.graph.nodes):
        if node.op == "call_function" and node.users and all(_decides(user, node, only) for user in node.users):
            only.add(node)
            if is_call(node, "aten.linear"):
                _mark(bind(node)["weight"])
        if is_call(node, _CONVOLUTION):
            _mark(bind(node)["weight"])
    return sum(map(keeps_state, module.graph.nodes))


def keeps_state(weight: Node) -> bool:
    """Whether a weight is marked."""
    return weight.meta.get(_MARK, False)


def _decides(user: Node, node: Node, only: set[Node]) -> bool:
    """Whether ``user`` reads ``node`` for the state alone: as such an argument, or as a step on the way to one."""
    for operator, names in _RECURRENCES.items():
        if is_call(user, operator):
            arguments = bind(user)
            return all(name in names for name, value in arguments.items() if value is node)
    return user in only


def _mark(weight: object) -> None:
    if isinstance(weight, Node):
        weight.meta[_MARK] = True
