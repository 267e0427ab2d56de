"""Layer norms in operators that XNNPACK's delegate takes.

It has none of its own. A mean over the last axis is a linear layer with one output whose weights are all 1/C; over the
channels of an image, a 1x1 convolution, which saves the way to channels-last and back.
"""

from __future__ import annotations

import torch

from hycompile.backends.executorch.forms.moments import normalise
from hycompile.builder import Value, call
from hycompile.pattern import Any, Arg, Call
from hycompile.rewrite import require, rule

_TO_TOKENS, _TO_IMAGE = [0, 2, 3, 1], [0, 3, 1, 2]


@rule(
    Call(
        "aten.permute",
        dims=_TO_IMAGE,
        self=Call(
            "aten.layer_norm",
            name="norm",
            once=True,
            input=Call("aten.permute", dims=_TO_TOKENS, self=Any("x")),
            normalized_shape=Arg("over"),
            eps=Arg("eps"),
        ),
    ),
    source="a mean over channels is a 1x1 convolution with weights 1/C",
)
def expand_channel_norm(norm: Value, x: Value, over: list[int], eps: float) -> Value:
    """A layer norm over the channels of [B, C, H, W] between two permutes: c / sqrt(mean(c^2) + eps), c = x - mean(x).

    Given: permute to channels-last, layer norm over the channels, permute back (ConvNeXt's and EdgeNeXt's norm).
    Result: the same on channels-first, the means as 1x1 convolutions; no permute is left.

    Refused in float16, whose range the squares leave.
    """
    _require_range(x)
    ones = torch.full((1, over[0], 1, 1), 1 / over[0], dtype=torch.float64)
    return normalise(norm, x, eps, lambda value: call("aten.conv2d", value, ones), [1, over[0], 1, 1])


@rule(
    Call("aten.layer_norm", name="norm", input=Any("x"), normalized_shape=Arg("over"), eps=Arg("eps")),
    source="Ba et al. 2016, equation 3; a mean is a linear map with weights 1/C",
)
def expand_layer_norm(norm: Value, x: Value, over: list[int], eps: float) -> Value:
    """layer_norm(x) = c / sqrt(mean(c^2) + eps) w + b,  c = x - mean(x),  mean(x) = linear(x, 1/C).

    Given: a layer norm over the last axis.
    Result: two linears with one output each, and elementwise operators.

    Refused over several axes, and in float16, whose range the squares leave.
    """
    require(len(over) == 1, "it normalises over {} axes", len(over))
    _require_range(x)
    ones = torch.full((1, over[0]), 1 / over[0], dtype=torch.float64)
    return normalise(norm, x, eps, lambda value: call("aten.linear", value, ones), [over[0]])


def _require_range(x: Value) -> None:
    require(x.dtype != torch.float16, "in float16 the squares may leave the range")
