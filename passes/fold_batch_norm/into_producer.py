"""Batch norm after a convolution, transposed convolution or linear."""

from __future__ import annotations

from typing import cast

from torch import Tensor
from torch.fx import Node

from hycompile.builder import Value, call
from hycompile.passes.affine import CONVOLUTIONS, TRANSPOSED, channel_axis, output_bias, output_scaled
from hycompile.passes.channels import axis_before
from hycompile.passes.fold_batch_norm.pattern import BATCH_NORM, affine_of
from hycompile.program import constant
from hycompile.rewrite import require, rule
from hycompile.schema import bind, is_call, operator_name


@rule(BATCH_NORM, source="Jacob et al. 2018, section 3.2; R1 of the rule catalogue")
def fold_batch_norm_into_producer(
    norm: Value,
    x: Value,
    gamma: Tensor | None,
    beta: Tensor | None,
    mean: Tensor | None,
    var: Tensor | None,
    eps: float,
) -> Value:
    """BN(W x + b) = W' x + b':  W' = diag(s) W [out],  b' = s b + t [out],  s = g / sqrt(var + eps), t = beta - mean s.

    Given: a convolution of any groups, stride and padding, a transposed convolution or a linear; then operators that
    only move data and keep the channel axis whole (LeViT flattens its tokens between linear and batch norm); then BN.
    Result: the same operator with folded weight and bias, and the same moves.

    Refused when the producer is not linear, when it or a move between has another user (who would see scaled values),
    when its weight is not a constant, or when the batch norm takes the statistics of its batch.
    """
    affine = affine_of(norm, gamma, beta, mean, var, eps)
    producer, moves = _producer(x.node)
    module = norm.node.graph.owning_module
    a = bind(producer)
    weight, bias = constant(module, a["weight"]), constant(module, a["bias"])  # type: ignore[arg-type]
    require(weight is not None, "the weight of {} is not a constant", producer.name)
    require(bias is not None or a["bias"] is None, "the bias of {} is not a constant", producer.name)
    transposed = is_call(producer, *TRANSPOSED)
    folded = output_scaled(weight, affine, a.get("groups", 1), transposed)  # type: ignore[arg-type]
    geometry = [value for name, value in a.items() if name not in ("input", "weight", "bias")]
    result = call(producer.target, Value(a["input"]), folded, output_bias(bias, affine), *geometry)  # type: ignore[arg-type]
    for move in reversed(moves):
        result = call(move.target, result, *move.args[1:], **move.kwargs)  # type: ignore[arg-type]
    return result


def _producer(node: Node) -> tuple[Node, list[Node]]:
    """The linear operator ``node`` comes from and the moves between, nearest first."""
    axis, moves = 1, list[Node]()
    while True:
        linear = is_call(node, *CONVOLUTIONS, *TRANSPOSED, "aten.linear")
        before = axis_before(node, axis) if node.op == "call_function" and not linear else None
        moved = before is not None
        require(linear or moved, "{} is neither linear nor a move that keeps the channel axis", operator_name(node))
        users = len(node.users)
        require(users == 1, "{} has {} users, the others need it without the batch norm", node.name, users)
        if linear:
            own = channel_axis(node)
            require(
                axis == own, "the channels of {} lie on axis {}, the batch norm scales axis {}", node.name, own, axis
            )
            return node, moves
        moves.append(node)
        axis, node = cast("int", before), cast("Node", node.args[0])
