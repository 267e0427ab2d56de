"""Names the attention that is no scaled-dot-product attention, so that a report says what was left and why."""

from __future__ import annotations

from torch.fx import Node

from hycompile.program import Program, source_line
from hycompile.reports import Refusal, RuleReport
from hycompile.schema import bind, is_call

_SOFTMAX = ("aten.softmax.int", "aten._softmax")
_PRODUCTS = ("aten.matmul", "aten.bmm")
_CONVOLUTIONS = ("aten.conv1d", "aten.conv2d")


def name_other_attention(program: Program, known: set[str]) -> RuleReport:
    """A softmax that stays is named; a node of ``known``, whose refusal a rule reported, is not named again."""
    report = RuleReport("name_other_attention")
    for method in program.methods.values():
        for node in method.graph.graph.nodes:
            if is_call(node, *_SOFTMAX) and not known & {node.name, *(user.name for user in node.users)}:
                report.refusals.append(Refusal(_kind(node), node.name, source_line(node)))
            elif _is_linear_attention(node):
                reason = "linear attention: no softmax, three products in their cheapest order"
                report.refusals.append(Refusal(reason, node.name, source_line(node)))
    return report


def _kind(softmax: Node) -> str:
    users = list(softmax.users)
    if any(is_call(user, *_CONVOLUTIONS) for user in users):
        return "talking heads: heads are mixed behind the softmax, so that it belongs to no single attention"
    if any(is_call(user, "aten.mul.Tensor") for user in users):
        return "separable attention: the softmax weighs each position once, for all queries"
    if any(user.op == "output" for user in users):
        return "the softmax is an output"
    source = bind(softmax)["self"]
    return f"softmax of {source.name}, used by {', '.join(user.name for user in users) or 'nothing'}"


def _is_linear_attention(node: Node) -> bool:
    """``q (k^T v)`` where ``q`` and ``k`` come from an activation."""
    if not is_call(node, "aten.matmul") or not is_call(node.args[1], *_PRODUCTS):
        return False
    inner: Node = node.args[1]  # type: ignore[assignment]
    return is_call(node.args[0], "aten.relu") and any(is_call(_source(value), "aten.relu") for value in inner.args)


def _source(value: object) -> object:
    while is_call(value, "aten.transpose.int", "aten.permute"):
        value = value.args[0]  # type: ignore[union-attr]
    return value
