"""A projection that several parts are cut from becomes one projection a part."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.fx import Node

from hycompile.builder import Value, call
from hycompile.passes.affine import CONVOLUTIONS
from hycompile.passes.fuse_conv_attention.layout import MOVES, Layout, Piece, laid_out
from hycompile.passes.fuse_conv_attention.projection import Projected, Projection
from hycompile.pattern import Call
from hycompile.rewrite import require, rule
from hycompile.schema import bind, is_call, operator_name

PARTS = ("aten.select.int", "aten.slice.Tensor")
_ATTENTION = ("aten.scaled_dot_product_attention", "aten.softmax.int", "aten.matmul")


@rule(
    Call(PARTS, name="part", self=Projected("whole")),
    source="rows of a product are products of rows; R12d of the rule catalogue read backwards, and R12e",
)
def split_projection(part: Value, whole: Projection) -> Value:
    """(W x + b)[rows] = W[rows] x + b[rows].

    Given: a select or slice of the channels of a linear or 1x1 convolution, behind reshapes and permutes, where all
    uses of the projection end in such parts: Q, K and V cut from one projection by unbind, split or chunk.
    Result: a projection of the part's rows alone, reshaped and permuted straight into the part's axes. The five-axis
    value between is gone, and rows that no part takes are no longer computed.

    Refused where another use needs the whole, where parts overlap, where the axis that is cut is not one piece of the
    channels, for grouped and larger convolutions, weights that are no constants, steps, and two dynamic sizes. Also
    where it gains nothing: no attention takes a part, as with the halves of a gate, and every row is used.
    """
    weight, bias = whole.constants()
    _require_pointwise(whole.node, weight)
    channels = whole.channels()
    found = _parts(whole.node, _source(whole))
    rows = torch.cat([_rows(leaf, layout, channels) for leaf, layout in found])
    require(rows.unique().numel() == rows.numel(), "the parts of {} overlap", whole.node.name)
    gains = rows.numel() < weight.shape[0] or any(_feeds_attention(leaf) for leaf, _ in found)
    require(gains, "no attention takes a part of {}", whole.node.name)
    layout, a = whole.layout(), bind(whole.node)
    own = _rows(part.node, layout, channels)
    rest = [value for name, value in a.items() if name not in ("input", "weight", "bias")]
    own_bias = None if bias is None else bias[own]
    cut = call(whole.node.target, Value(a["input"]), weight[own], own_bias, *rest)  # type: ignore[arg-type]
    result = laid_out(cut, _after(part.node, layout))
    require(result is not None, "two sizes of {} are dynamic, a reshape infers one", part.node.name)
    return result  # type: ignore[return-value]


def _source(whole: Projection) -> Layout:
    return Layout.of(whole.node.meta["val"].shape)


def _require_pointwise(node: Node, weight: Tensor) -> None:
    groups, kernel = bind(node).get("groups", 1), math.prod(weight.shape[2:])
    require(groups == 1, "{} has {} groups", node.name, groups)
    require(kernel == 1, "{} has {} taps: each part would gather them again", node.name, kernel)


def _parts(node: Node, layout: Layout) -> list[tuple[Node, Layout]]:
    """Every part that the uses of ``node`` end in; refuses if one of them is something else."""
    found: list[tuple[Node, Layout]] = []
    for user in node.users:
        if is_call(user, *PARTS):
            found.append((user, layout))
            continue
        name = operator_name(user) if user.op == "call_function" else user.op
        require(is_call(user, *MOVES), "{} needs the whole projection", name)
        after = layout.through(user)
        require(after is not None, "{} joins channels with other axes", user.name)
        found += _parts(user, after)  # type: ignore[arg-type]
    return found


def _feeds_attention(part: Node) -> bool:
    """Whether an attention takes the part with no projection between; norms and depthwise convolutions are none."""
    pending, seen = [part], {part}
    while pending:
        node = pending.pop()
        if is_call(node, *_ATTENTION):
            return True
        users = [user for user in node.users if user not in seen and not _projects(user)]
        pending += users
        seen.update(users)
    return False


def _projects(node: Node) -> bool:
    return is_call(node, "aten.linear") or (is_call(node, *CONVOLUTIONS) and bind(node)["groups"] == 1)


def _rows(part: Node, layout: Layout, channels: int) -> Tensor:
    """Which channels a part takes, in their own order."""
    a = bind(part)
    axis = a["dim"] % len(layout.axes)
    pieces, step = layout.axes[axis], a.get("step", 1)
    require(
        len(pieces) == 1 and pieces[0].axis == channels, "axis {} that {} cuts is not made of channels", axis, part.name
    )
    require(step == 1, "{} takes every {}th channel", part.name, step)
    own = layout.pieces_of(channels)
    sizes = [piece.size for piece in own]
    index, position = torch.arange(math.prod(sizes)).reshape(sizes), own.index(pieces[0])
    if is_call(part, "aten.select.int"):
        return index.select(position, a["index"]).flatten()
    return torch.ops.aten.slice.Tensor(index, position, a["start"], a["end"]).flatten()


def _after(part: Node, layout: Layout) -> Layout:
    """The layout of a part, with the channels of its own projection as source."""
    axes = list(layout.axes)
    axis = bind(part)["dim"] % len(axes)
    (piece,) = axes.pop(axis)
    if is_call(part, "aten.slice.Tensor"):
        size = part.meta["val"].shape[axis]
        axes.insert(axis, () if size == 1 else (Piece(piece.path, size),))
    return Layout(tuple(axes))
