"""A group norm over whole images in operators that XNNPACK's delegate takes."""

from __future__ import annotations

import torch

from hycompile.backends.executorch.forms.moments import normalise
from hycompile.backends.executorch.forms.sizes import require_fixed
from hycompile.builder import Value, call
from hycompile.pattern import Any, Arg, Call
from hycompile.rewrite import require, rule


@rule(
    Call("aten.group_norm", name="norm", input=Any("x"), num_groups=1, eps=Arg("eps")),
    source="Wu and He 2018, equations 1 and 2, with one group",
)
def expand_image_norm(norm: Value, x: Value, eps: float) -> Value:
    """group_norm(x, 1 group) = c / sqrt(mean(c^2) + eps) w + b,  c = x - mean(x),  mean = conv1x1(average pool, 1/C).

    Given: a group norm of one group over [B, C, H, W] (MobileViTv2's).
    Result: the means as global average poolings, whose order of adding keeps them exact to rounding, and 1x1
    convolutions over the channels; image layout throughout.

    Refused for other ranks, dynamic sizes, and in float16, whose range the squares leave.
    """
    require(len(x.shape) == 4, "its input has {} axes", len(x.shape))
    require_fixed(x.shape[1:])
    require(x.dtype != torch.float16, "in float16 the squares may leave the range")
    channels = x.shape[1]
    ones = torch.full((1, channels, 1, 1), 1 / channels, dtype=torch.float64)

    def mean(value: Value) -> Value:
        return call("aten.conv2d", call("aten.mean.dim", value, [2, 3], True), ones)

    return normalise(norm, x, eps, mean, [1, channels, 1, 1])
