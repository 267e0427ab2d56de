"""Convolutions of stride 2 as matrix products, where XNNPACK's indirect products are the slower ones."""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor

from hycompile.backends.executorch.forms.kernel_rows import COLUMNS
from hycompile.backends.executorch.forms.sizes import require_fixed
from hycompile.builder import Value, call
from hycompile.pattern import Any, Call, Const
from hycompile.rewrite import require, rule

# With fewer, copying the image, four times as large as the result, costs what the faster product gains.
_INPUTS = 24
_OUTPUTS = 48


@rule(
    Call(
        "aten.conv2d",
        name="conv",
        input=Any("x"),
        weight=Const("weight"),
        bias=Const("bias", optional=True),
        stride=[2, 2],
        dilation=[1, 1],
        groups=1,
    ),
    source="polyphase decomposition: x[2i + r] is value i + r // 2 of those at the places of r's parity",
)
def split_strided_rows(conv: Value, x: Value, weight: Tensor, bias: Tensor | None) -> Value:
    """w * x = sum_r (W_r X_(r % 2))[r // 2 :]:  X_p[i, j] = cat_c x[2i + p, 2j + c],  W_r = cat_c w[:, :, r, c].

    Given: a dense convolution of stride 2 with as many channels as pay for the copies.
    Result: channels last, the even and the odd rows of the padded image, each as pairs of columns side by side with the
    next ones; a matrix product for every row of the kernel; and the sum of what they say about the rows of the result.

    Refused for kernels of one row or column or more columns than XNNPACK concatenates, few channels, fewer outputs than
    inputs, dynamic sizes, and float16.
    """
    outputs, inputs, height, width = weight.shape
    require(height > 1 and width > 1, "its kernel is {} by {}", height, width)
    require(width <= COLUMNS, "its kernel has {} columns, {} are concatenated at once", width, COLUMNS)
    require(inputs >= _INPUTS, "it has {} input channels, fewer than {}", inputs, _INPUTS)
    require(outputs >= max(_OUTPUTS, inputs), "it has {} outputs for {} inputs", outputs, inputs)
    require(x.dtype != torch.float16, "it computes in float16, of which nothing was measured")
    require_fixed(conv.shape)
    batch, _, rows, columns = conv.shape
    high, wide = rows + (height - 1) // 2, columns + (width - 1) // 2
    lines = _paired(x, conv["padding"], high, wide)
    phases = [
        _side_by_side(
            call("aten.slice.Tensor", lines, 2, phase, phase + 1), width, columns, (batch, high, wide, inputs)
        )
        for phase in range(2)
    ]
    products = [
        call(
            "aten.slice.Tensor",
            call(
                "aten.linear",
                phases[row % 2],
                weight[:, :, row].transpose(1, 2).reshape(outputs, width * inputs),
                None if row else bias,
            ),
            1,
            row // 2 * columns,
            (row // 2 + rows) * columns,
        )
        for row in range(height)
    ]
    total = reduce(lambda left, right: call("aten.add.Tensor", left, right), products)
    return call("aten.permute", call("aten.reshape", total, [batch, rows, columns, outputs]), [0, 3, 1, 2])


def _paired(x: Value, padding: list[int], high: int, wide: int) -> Value:
    """The padded image as [batch, pairs of rows, 2, all columns and their channels]."""
    batch, channels, height, width = x.shape
    above, before = padding
    below, behind = 2 * high - above - height, 2 * wide - before - width
    last = call("aten.reshape", call("aten.permute", x, [0, 2, 3, 1]), [batch, height, width * channels])
    pads = [before * channels, max(behind, 0) * channels, above, max(below, 0)]
    padded = call("aten.constant_pad_nd", last, pads) if any(pads) else last
    # A last row or column that no step of the kernel reaches is cut off.
    if behind < 0:
        padded = call("aten.slice.Tensor", padded, 2, 0, 2 * wide * channels)
    if below < 0:
        padded = call("aten.slice.Tensor", padded, 1, 0, 2 * high)
    return call("aten.reshape", padded, [batch, high, 2, 2 * wide * channels])


def _side_by_side(line: Value, width: int, columns: int, sizes: tuple[int, int, int, int]) -> Value:
    """What every column of the result sees of one phase of rows: [batch, rows x columns, width x channels]."""
    batch, high, wide, channels = sizes
    pairs = call("aten.reshape", line, [batch * high, wide, 2 * channels])
    pieces: list[Value] = []
    for first in range((width + 1) // 2):
        both = 2 * first + 1 < width
        seen = pairs if both else call("aten.slice.Tensor", pairs, 2, 0, channels)
        pieces.append(call("aten.slice.Tensor", seen, 1, first, first + columns))
    beside = call("aten.cat", pieces, 2) if len(pieces) > 1 else pieces[0]
    return call("aten.reshape", beside, [batch, high * columns, width * channels])
