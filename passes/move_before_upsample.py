"""Pointwise linear operators before what repeats or interpolates their input, where there are fewer values."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true

from hycompile.builder import Value, call
from hycompile.passes.affine import is_padded
from hycompile.pattern import Any, Call, Const
from hycompile.pipeline import RulePass
from hycompile.rewrite import Rule, require, rule
from hycompile.schema import is_call, operator_name

_UPSAMPLED = Call(("aten.upsample_nearest2d.vec", "aten.upsample_bilinear2d.vec"), name="up", once=True, input=Any("x"))
_REPEATED = Call(("aten.repeat_interleave.self_int", "aten.repeat", "aten.expand"), name="up", once=True, self=Any("x"))


@rule(
    Call("aten.conv2d", name="conv", input=_UPSAMPLED, weight=Const("weight"), bias=Const("bias", optional=True)),
    source="interpolation weights sum to 1 and are the same in every channel; R18 of the rule catalogue",
)
def move_conv_before_upsample(x: Value, up: Value, conv: Value, weight: Tensor, bias: Tensor | None) -> Value:
    """W up(x) + b = up(W x + b)  for a 1x1 convolution and nearest or bilinear up.

    Given: an upsampling read by a 1x1 convolution of any groups only.
    Result: the convolution on the smaller image, then the upsampling.

    Refused for larger kernels, strides and padding, which mix or drop positions, and where it would cost more: the
    multiplications saved must outweigh a widened interpolation.
    """
    kernel, stride = tuple(weight.shape[2:]), conv["stride"]
    pointwise = kernel == (1, 1) and not is_padded(conv) and all(step == 1 for step in stride)
    require(pointwise, "{} has kernel {}, stride {}, padding {}", conv.node.name, kernel, stride, conv["padding"])
    _require_cheaper(x, up, weight, channels=1)
    moved = call("aten.conv2d", x, weight, bias, stride, conv["padding"], conv["dilation"], conv["groups"])
    return call(up.node.target, moved, *up.node.args[1:], **up.node.kwargs)  # type: ignore[arg-type]


@rule(
    Call("aten.linear", input=_REPEATED, weight=Const("weight"), bias=Const("bias", optional=True)),
    source="a linear works row by row; Kim et al. 2022 (Squeezeformer); R18 of the rule catalogue",
)
def move_linear_before_repeat(x: Value, up: Value, weight: Tensor, bias: Tensor | None) -> Value:
    """W repeat(x) + b = repeat(W x + b).

    Given: a repeat, repeat_interleave or expand along other axes than the last, read by a linear only.
    Result: the linear on the rows that are there once, then the same repetition.

    Refused where the last axis itself is repeated, and where it would cost more.
    """
    rank, last = len(x.shape), weight.shape[-1]
    kept = weight.dim() == 2 and len(up.shape) == rank and statically_known_true(x.shape[-1] == last)
    if is_call(up.node, "aten.repeat_interleave.self_int"):
        kept = kept and up["dim"] is not None and up["dim"] % rank != rank - 1
    require(kept, "{} repeats along the last axis, or changes the number of axes", up.node.name)
    _require_cheaper(x, up, weight, channels=rank - 1)
    moved = call("aten.linear", x, weight, bias)
    args = list(up.node.args[1:])
    if is_call(up.node, "aten.expand"):
        args[0] = [*up["size"][:-1], -1]
    return call(up.node.target, moved, *args, **up.node.kwargs)  # type: ignore[arg-type]


def _require_cheaper(x: Value, up: Value, weight: Tensor, channels: int) -> None:
    """Operations: a multiplication per weight and position, and per interpolated value as many as it averages."""
    taps = 4 if operator_name(up.node) == "aten.upsample_bilinear2d.vec" else 1
    few, many = (math.prod(v.shape) // v.shape[channels] for v in (x, up))
    inputs, outputs = up.shape[channels], weight.shape[0]
    now = many * (weight.numel() + taps * inputs)
    moved = few * weight.numel() + taps * many * outputs
    require(statically_known_true(moved < now), "moved it takes {} operations, now {}", moved, now)


RULES = (move_conv_before_upsample, move_linear_before_repeat)


class MoveBeforeUpsample(RulePass):
    """A pointwise linear operator runs before what repeats or interpolates its input, where that is less work."""

    name: ClassVar[str] = "move-before-upsample"
    rules: ClassVar[tuple[Rule, ...]] = RULES
