"""Convolutions of several taps as matrix products, where XNNPACK's indirect products are the slower ones.

XNNPACK computes a dense convolution of more than one tap by a matrix product that looks up the address of every row of
its input (IGEMM). On x86 that kernel reaches half of what its plain matrix product (GEMM) does, whatever the shape.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hycompile.backends.executorch.forms.sizes import require_fixed
from hycompile.builder import Value, call
from hycompile.pattern import Any, Call, Const
from hycompile.rewrite import require, rule

# Below, copying the input costs what the faster product gains.
_CHANNELS = 48
# As many as XNNPACK concatenates at once.
_COLUMNS = 5


@rule(
    Call(
        "aten.conv2d",
        name="conv",
        input=Any("x"),
        weight=Const("weight"),
        bias=Const("bias", optional=True),
        stride=[1, 1],
        dilation=[1, 1],
        groups=1,
    ),
    source="definition of convolution: a sum over taps, here one matrix product a kernel row",
)
def split_kernel_rows(conv: Value, x: Value, weight: Tensor, bias: Tensor | None) -> Value:
    """w * x = sum_r W_r X[r : r + h]:  X[i, j] = cat_c x_padded[i, j + c],  W_r = cat_c w[:, :, r, c].

    Given: a dense convolution of several taps and stride 1, with as many channels as pay for the copies.
    Result: the padded input side by side with itself, moved by one column at a time; a 1x1 convolution for every row of
    the kernel reads it from one row further down; and their sum.

    Refused for kernels of one tap or of more columns than XNNPACK concatenates, few channels, dynamic sizes, and
    float16.
    """
    outputs, inputs, height, width = weight.shape
    require(height * width > 1, "it has one tap")
    require(width <= _COLUMNS, "its kernel has {} columns, {} are concatenated at once", width, _COLUMNS)
    require(min(inputs, outputs) >= _CHANNELS, "it has {} and {} channels, fewer than {}", inputs, outputs, _CHANNELS)
    require(x.dtype != torch.float16, "it computes in float16, of which nothing was measured")
    require_fixed(conv.shape)
    rows, columns = conv.shape[-2:]
    beside = _side_by_side(_padded(x, conv["padding"]), width, columns)
    total: Value | None = None
    for row in range(height):
        product = call(
            "aten.conv2d",
            call("aten.slice.Tensor", beside, 2, row, row + rows) if height > 1 else beside,
            weight[:, :, row].transpose(1, 2).reshape(outputs, width * inputs, 1, 1),
            None if row else bias,
        )
        total = call("aten.add.Tensor", total, product) if total else product
    assert total is not None
    return total


def _padded(x: Value, padding: list[int]) -> Value:
    vertical, horizontal = padding
    if not vertical and not horizontal:
        return x
    return call("aten.constant_pad_nd", x, [horizontal, horizontal, vertical, vertical])


def _side_by_side(x: Value, width: int, columns: int) -> Value:
    if width == 1:
        return x
    return call("aten.cat", [call("aten.slice.Tensor", x, 3, first, first + columns) for first in range(width)], 1)
