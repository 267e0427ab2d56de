"""Depthwise convolutions of more taps than XNNPACK has kernels for.

Its depthwise kernels hold at most 25 taps; a 7x7 convolution (FastViT, EdgeNeXt) runs as one matrix product a channel
instead, some ten times slower a tap.
"""

from __future__ import annotations

from torch import Tensor

from hycompile.builder import Value, call
from hycompile.pattern import Any, Call, Const
from hycompile.rewrite import require, rule

_TAPS, _CORE = 25, 5


@rule(
    Call(
        "aten.conv2d",
        name="conv",
        input=Any("x"),
        weight=Const("weight"),
        bias=Const("bias", optional=True),
        dilation=[1, 1],
    ),
    source="a convolution is linear in its kernel: the taps may be dealt out to several kernels",
)
def split_wide_depthwise(conv: Value, x: Value, weight: Tensor, bias: Tensor | None) -> Value:
    """w * x = w_core * x + sum_r (w_rows(r) * x + w_columns(r) * x):  core 5x5, then the ring at distance r = 3, 4, ...

    Given: a depthwise convolution of an odd square kernel wider than 5, padded by half of it, of any stride.
    Result: its core, and for every ring two convolutions of two rows, or two columns, as far apart as a dilation of 2 r
    makes them; each has at most 25 taps, and all sit on the same centre.

    Refused for other convolutions, kernels and paddings.
    """
    channels, inputs, height, width = weight.shape
    require(inputs == 1 and conv["groups"] == channels, "it is no depthwise convolution")
    require(height == width and height % 2 == 1 and height > _CORE, "its kernel is {} x {}", height, width)
    half = height // 2
    require(conv["padding"] == [half, half], "its padding is {}, not {}", conv["padding"], half)
    require(2 * height <= _TAPS, "two rows of its kernel have {} taps, {} fit", 2 * height, _TAPS)
    first = half - _CORE // 2
    core = weight[:, :, first : half + _CORE // 2 + 1, first : half + _CORE // 2 + 1]
    total = _part(conv, x, core, bias, (1, 1))
    for ring in range(_CORE // 2 + 1, half + 1):
        low, high = half - ring, half + ring
        rows = weight[:, :, [low, high], low : high + 1]
        columns = weight[:, :, low + 1 : high, [low, high]]
        for part, dilation in ((rows, (2 * ring, 1)), (columns, (1, 2 * ring))):
            total = call("aten.add.Tensor", total, _part(conv, x, part, None, dilation))
    return total


def _part(conv: Value, x: Value, weight: Tensor, bias: Tensor | None, dilation: tuple[int, int]) -> Value:
    """A convolution with some of the taps, padded so that its centre is that of the whole."""
    padding = [step * (size - 1) // 2 for step, size in zip(dilation, weight.shape[2:], strict=True)]
    return call("aten.conv2d", x, weight.contiguous(), bias, conv["stride"], padding, list(dilation), conv["groups"])
