"""Depthwise convolutions that make several channels of each: XNNPACK runs them as one tiny matrix product a channel.

FastViT's patch embeddings double the channels so; as plain depthwise convolutions the same work takes a fraction of the
time.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from hycompile.builder import Value, call, edit
from hycompile.pattern import Any, Call, Const
from hycompile.program import constant
from hycompile.rewrite import require, rule
from hycompile.schema import bind, is_call, operator_name

_ELEMENTWISE = ("aten.relu", "aten.gelu", "aten.silu", "aten.hardswish", "aten.sigmoid", "aten.tanh")


@rule(
    Call(
        "aten.conv2d",
        name="conv",
        input=Any("x"),
        weight=Const("weight"),
        bias=Const("bias", optional=True),
    ),
    source="a grouped convolution is one convolution a group; channels may be numbered anew if their readers know",
)
def split_depth_multiplier(conv: Value, x: Value, weight: Tensor, bias: Tensor | None) -> Value:
    """W y = W' cat(y_1, .., y_k):  y_j = depthwise(x, w_j) holds the j-th of the k channels made of each.

    Given: a convolution with one input channel a group and k outputs, read only by dense convolutions, perhaps behind
    element-wise operators.
    Result: k depthwise convolutions and a concatenation; the readers' weights have their inputs in its order.

    Refused for other convolutions, and where something else reads the channels, which stand in another order.
    """
    channels = conv["groups"]
    outputs, inputs = weight.shape[:2]
    factor = outputs // channels
    require(channels > 1 and inputs == 1 and factor > 1, "it has {} inputs and {} outputs a group", inputs, factor)
    readers = _readers(conv.node)
    for reader in readers:
        read = bind(reader)
        module: GraphModule = reader.graph.owning_module  # type: ignore[assignment]
        dense: Tensor = constant(module, read["weight"])  # type: ignore[assignment]
        edit(Value(reader), weight=dense.unflatten(1, (channels, factor)).transpose(1, 2).flatten(1, 2))
    weights = weight.unflatten(0, (channels, factor))
    biases = torch.zeros(channels, factor) if bias is None else bias.unflatten(0, (channels, factor))
    geometry = (conv["stride"], conv["padding"], conv["dilation"], channels)
    branches = [
        call("aten.conv2d", x, weights[:, index].contiguous(), biases[:, index].contiguous(), *geometry)
        for index in range(factor)
    ]
    return call("aten.cat", branches, 1)


def _readers(node: Node) -> list[Node]:
    """The dense convolutions that all uses of ``node`` end in; raises a refusal if one does not."""
    found: list[Node] = []
    require(node.users, "nothing reads it")
    for user in node.users:
        if is_call(user, *_ELEMENTWISE):
            found += _readers(user)
            continue
        module: GraphModule = node.graph.owning_module  # type: ignore[assignment]
        a = bind(user) if user.op == "call_function" else {}
        dense = is_call(user, "aten.conv2d") and a["groups"] == 1 and constant(module, a["weight"]) is not None
        require(dense, "{} reads its channels and is no dense convolution of constant weight", operator_name(user))
        found.append(user)
    return found
