"""Convolutions of a few groups as dense ones, which then have faster forms."""

from __future__ import annotations

from torch import Tensor

from hycompile.backends.executorch.forms.sizes import require_fixed
from hycompile.builder import Value, call
from hycompile.pattern import Any, Arg, Call, Const
from hycompile.rewrite import require, rule

# As many as XNNPACK concatenates at once; with more, small images cost more in copies than products gain.
_GROUPS = 5
# Narrower groups have no faster form.
_CHANNELS = 32


@rule(
    Call(
        "aten.conv2d",
        name="conv",
        input=Any("x"),
        weight=Const("weight"),
        bias=Const("bias", optional=True),
        stride=[1, 1],
        groups=Arg("groups"),
    ),
    source="definition of groups",
)
def split_groups(conv: Value, x: Value, weight: Tensor, bias: Tensor | None, groups: int) -> Value:
    """w * x = cat_g (w_g * x_g), x_g the channels of one group.

    Given: a convolution of several taps and stride 1 in a few wide groups (Next-ViT's multi-head convolution).
    Result: a dense convolution for each group, and their concatenation.

    Refused for dense and pointwise convolutions, many groups, narrow ones, and dynamic sizes.
    """
    outputs, inputs, height, width = weight.shape
    require(1 < groups <= _GROUPS, "it has {} groups", groups)
    require(height * width > 1, "it has one tap")
    require(inputs >= _CHANNELS, "its groups have {} channels, fewer than {}", inputs, _CHANNELS)
    require_fixed(conv.shape)
    geometry = (conv["stride"], conv["padding"], conv["dilation"])
    each = outputs // groups
    branches = [
        call(
            "aten.conv2d",
            call("aten.slice.Tensor", x, 1, group * inputs, (group + 1) * inputs),
            weight[group * each : (group + 1) * each],
            None if bias is None else bias[group * each : (group + 1) * each],
            *geometry,
        )
        for group in range(groups)
    ]
    return call("aten.cat", branches, 1)
