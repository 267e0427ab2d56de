"""The scale of the logits into a weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any as Anything

from torch.fx import GraphModule, Node

from hycompile.builder import Value, edit
from hycompile.passes.affine import CONVOLUTIONS
from hycompile.passes.fuse_conv_attention.attention_call import ATTENTION, again, scale_of
from hycompile.passes.fuse_conv_attention.layout import MOVES
from hycompile.pattern import Any, Call, Captures, Pattern
from hycompile.program import constant
from hycompile.rewrite import require, rule
from hycompile.schema import bind, is_call, operator_name


@dataclass(frozen=True)
class _Unfolded(Pattern):
    """Any scale but 1.0."""

    def match(self, module: GraphModule, value: object, captures: Captures) -> Captures | None:
        return None if value == 1.0 else captures

    def names(self) -> set[str]:
        return set()


@rule(
    Call(ATTENTION, name="attention", query=Any("query"), key=Any("key"), scale=_Unfolded()),
    source="R12a of the rule catalogue",
)
def fold_scale(attention: Value, query: Value, key: Value) -> Value:
    """SDPA(W x + b, K, V, s) = SDPA(s W x + s b, K, V, 1).

    Given: an attention whose queries, or else keys, are a linear, a convolution, a layer norm or a multiplication by a
    constant, but for moves that nobody else uses.
    Result: the same attention with scale 1, and the scale in that weight and bias. A norm takes it in its own weight:
    before the norm it would be normalised away.

    Refused where neither queries nor keys have a weight that only they use.
    """
    scale = scale_of(attention)
    reasons: list[str] = []
    for value in (query, key):
        folded = _scaled(value.node, scale)
        if isinstance(folded, dict):
            edit(Value(_producer(value.node)), **folded)
            return again(attention, scale=1.0)
        reasons.append(folded)
    require(False, "the scale {:.4g} stays: {}", scale, "; ".join(dict.fromkeys(reasons)))
    raise AssertionError("unreachable")


def _producer(node: Node) -> Node:
    while is_call(node, *MOVES):
        node = node.args[0]  # type: ignore[assignment]
    return node


def _scaled(node: Node, scale: float) -> dict[str, Anything] | str:
    """New arguments of what ``node`` is made of, that make it ``scale`` times as large; or why there are none."""
    while True:
        if len(node.users) != 1:
            return f"{node.name} has {len(node.users)} users"
        if not is_call(node, *MOVES):
            break
        node = node.args[0]  # type: ignore[assignment]
    if not is_call(node, *CONVOLUTIONS, "aten.linear", "aten.layer_norm", "aten.mul.Tensor"):
        return f"{operator_name(node) if node.op == 'call_function' else node.op} {node.name} has no weight for it"
    module, a = node.graph.owning_module, bind(node)
    names = ("other",) if is_call(node, "aten.mul.Tensor") else ("weight", "bias")
    found: dict[str, Anything] = {}
    for name in names:
        tensor = constant(module, a[name])  # type: ignore[arg-type]
        if tensor is None and isinstance(a[name], (int, float)):
            found[name] = a[name] * scale
        elif tensor is not None:
            found[name] = tensor.double() * scale
        elif a[name] is not None or name != "bias":
            return f"the {name} of {node.name} is not a constant"
    return found
