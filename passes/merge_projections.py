"""Linears that read the same input, as one."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from hycompile.builder import Value, call
from hycompile.pattern import Any, Call, Captures, Const
from hycompile.pipeline import RulePass
from hycompile.program import constant
from hycompile.rewrite import Rule, require, rule
from hycompile.schema import bind, is_call


class FirstOfSeveral(Call):
    """The first linear, in the graph's order, of several that read one input; captures all as ``linears``."""

    def match(self, module: GraphModule, value: object, captures: Captures) -> Captures | None:
        found = super().match(module, value, captures)
        if found is None:
            return None
        readers = found["x"].node.users
        linears = [user for user in readers if is_call(user, "aten.linear") and bind(user)["input"] is found["x"].node]
        linears.sort()
        return found | {"linears": linears} if len(linears) > 1 and linears[0] is value else None

    def names(self) -> set[str]:
        return super().names() | {"linears"}


@rule(
    FirstOfSeveral("aten.linear", input=Any("x"), weight=Const()),
    source="a matrix product by rows; R12d of the rule catalogue",
)
def merge_projections(x: Value, linears: list[Node]) -> Value:
    """(Q x + q, K x + k, V x + v) = split(W x + b):  W = [Q; K; V] on top of each other, b = [q; k; v].

    Given: several linears of one input, such as the projections of attention written apart.
    Result: one linear, and a slice of it in place of each.

    Refused when a weight or bias is no constant, and unless all weights are matrices.
    """
    module = linears[0].graph.owning_module
    weights: list[Tensor] = []
    biases: list[Tensor | None] = []
    for node in linears:
        a = bind(node)
        weight, bias = constant(module, a["weight"]), constant(module, a["bias"])  # type: ignore[arg-type]
        known = weight is not None and weight.dim() == 2 and (bias is not None or a["bias"] is None)
        require(known, "weight or bias of {} is no constant matrix", node.name)
        weights.append(weight)  # type: ignore[arg-type]
        biases.append(bias)
    merged = call("aten.linear", x, torch.cat(weights), _stacked(weights, biases))
    ends = torch.tensor([weight.shape[0] for weight in weights]).cumsum(0).tolist()
    pieces = [
        call("aten.slice.Tensor", merged, -1, end - weight.shape[0], end)
        for weight, end in zip(weights, ends, strict=True)
    ]
    for node, piece in zip(linears[1:], pieces[1:], strict=True):
        node.replace_all_uses_with(piece.node)
        node.graph.erase_node(node)
    return pieces[0]


def _stacked(weights: list[Tensor], biases: list[Tensor | None]) -> Tensor | None:
    if all(bias is None for bias in biases):
        return None
    given = [w.new_zeros(w.shape[0]) if b is None else b for w, b in zip(weights, biases, strict=True)]
    return torch.cat(given)


class MergeProjections(RulePass):
    """Linears of one input become one, for runtimes that run one large product faster than several small ones.

    Not part of ``reparameterise``: others take the projections apart, and one quantisation range for all may cost
    accuracy.
    """

    name: ClassVar[str] = "merge-projections"
    rules: ClassVar[tuple[Rule, ...]] = (merge_projections,)
