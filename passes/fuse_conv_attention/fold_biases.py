"""Biases of keys and values out of the attention."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.fx import Node

from hycompile.builder import Value, edit
from hycompile.masks import masked_row
from hycompile.passes.affine import CONVOLUTIONS, Affine, channel_axis, input_bias, is_padded
from hycompile.passes.fuse_conv_attention.attention_call import ATTENTION, again
from hycompile.passes.fuse_conv_attention.layout import MOVES, Layout, spread, static
from hycompile.passes.fuse_conv_attention.projection import Projected, Projection
from hycompile.pattern import Call
from hycompile.program import constant
from hycompile.rewrite import require, rule
from hycompile.schema import bind, is_call, operator_name


@rule(
    Call(ATTENTION, name="attention", key=Projected("keys", biased=True)),
    source="softmax(z + c) = softmax(z); R12b of the rule catalogue",
)
def drop_key_bias(attention: Value, keys: Projection) -> Value:
    """softmax(Q (K + 1 b^T)^T + B) = softmax(Q K^T + B):  Q b is the same for every key.

    Given: keys that are a biased linear or convolution, but for moves; so no rotation, norm or sink between.
    Result: the same projection without its bias.

    Refused where someone else uses the keys, and where channels lie along the axis of keys: then the bias differs from
    key to key, as in attention over channels.
    """
    keys.constants()
    keys.require_one_user()
    along = keys.layout().axes_of(keys.channels())
    require(len(attention["key"].shape) - 2 not in along, "the bias of {} differs from key to key", keys.node.name)
    edit(Value(keys.node), bias=None)
    return again(attention)


@rule(
    Call(ATTENTION, name="attention", value=Projected("values", biased=True)),
    source="rows of the attention matrix sum to one; R12c of the rule catalogue",
)
def move_value_bias(attention: Value, values: Projection) -> Value:
    """W A (V + 1 b^T) + c = W A V + (W b + c):  A 1 = 1.

    Given: values that are a biased linear or convolution, but for moves, and an output projection behind the
    attention, but for moves.
    Result: the values lose their bias, the output projection gains it.

    Refused where someone else uses the values or the attention, where what follows is not a linear or an unpadded
    convolution of constant weight, where a row may be masked altogether, under dropout, and where channels lie along
    the keys.
    """
    _, bias = values.constants()
    values.require_one_user()
    rank, dropped = len(attention.shape), attention["dropout_p"]
    require(dropped == 0.0, "dropout of {} keeps the rows from summing to one", dropped)
    require(not attention["enable_gqa"], "groups of queries share values, their bias would have to be repeated")
    reason = masked_row(attention.node.graph.owning_module, attention.node)  # type: ignore[arg-type]
    require(reason is None, "a row may sum to zero: {}", reason)
    layout, channels = values.layout(), values.channels()
    require(rank - 2 not in layout.axes_of(channels), "the bias of {} differs from key to key", values.node.name)
    assert bias is not None
    along = spread(bias.double(), layout, channels)
    require(along is not None, "an axis behind {} joins channels with others", values.node.name)
    consumer, behind = _consumer(attention.node)
    a = bind(consumer)
    weight, own = _constants(consumer)
    shift = _channel_values(along, behind, channel_axis(consumer), attention)  # type: ignore[arg-type]
    added = input_bias(weight, Affine(torch.ones_like(shift), shift), a.get("groups", 1))
    edit(Value(values.node), bias=None)
    edit(Value(consumer), bias=added if own is None else added + own.double())
    return again(attention)


def _consumer(node: Node) -> tuple[Node, Layout]:
    """The linear operator behind an attention, and where the attention's axes stand in its input."""
    layout: Layout | None = Layout.of(node.meta["val"].shape)
    while True:
        users = len(node.users)
        require(users == 1, "{} has {} users, the others need it with the bias", node.name, users)
        (user,) = node.users
        if is_call(user, *CONVOLUTIONS, "aten.linear") and bind(user)["input"] is node:
            require(is_call(user, "aten.linear") or not is_padded(Value(user)), "{} is padded", user.name)
            return user, layout
        name = operator_name(user) if user.op == "call_function" else user.op
        require(is_call(user, *MOVES), "{} follows the attention, no projection", name)
        layout = layout.through(user)
        require(layout is not None, "{} cuts across the axes of the attention", user.name)
        assert layout is not None
        node = user


def _constants(consumer: Node) -> tuple[Tensor, Tensor | None]:
    module, a = consumer.graph.owning_module, bind(consumer)
    weight, bias = constant(module, a["weight"]), constant(module, a["bias"])  # type: ignore[arg-type]
    require(weight is not None, "the weight of {} is not a constant", consumer.name)
    require(bias is not None or a["bias"] is None, "the bias of {} is not a constant", consumer.name)
    return weight, bias  # type: ignore[return-value]


def _channel_values(along: Tensor, behind: Layout, axis: int | None, attention: Value) -> Tensor:
    """The bias ``[..., 1, Ev]`` of the values as one number an input channel of what follows."""
    require(axis is not None, "the output projection works without a batch axis")
    pieces = behind.axes[axis]  # type: ignore[index]
    held = {piece.axis for piece in pieces}
    for index, size in enumerate(along.shape):
        inside = behind.axes_of(index) in (set(), {axis}) if index in held else size == 1
        require(inside, "axis {} of the values is no channel of what follows", index)
    require(static(piece.size for piece in pieces), "the channels of what follows are dynamic")
    sizes = [size if index in held else 1 for index, size in enumerate(attention.shape)]
    full = along.expand(sizes)
    own = sorted(pieces, key=lambda piece: piece.path)
    return full.reshape([piece.size for piece in own]).permute([own.index(piece) for piece in pieces]).flatten()
