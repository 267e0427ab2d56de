"""Convolutions of several taps as matrix products, where XNNPACK's indirect products are the slower ones.

XNNPACK computes a dense convolution of more than one tap by a matrix product that looks up the address of every row of
its input (IGEMM). On x86 that kernel reaches half of what its plain matrix product (GEMM) does, whatever the shape.
"""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor

from hycompile.backends.executorch.forms.sizes import require_fixed
from hycompile.builder import Value, call
from hycompile.pattern import Any, Call, Const
from hycompile.rewrite import require, rule

# With fewer, copying the image costs what the faster product gains.
_INPUTS = 16
_OUTPUTS = 32
# Moved results are as wide as the outputs: below two for three inputs, moving them costs what the product gains.
_OUTPUTS_PER_INPUT = 2 / 3
# As many as XNNPACK concatenates at once.
COLUMNS = 5


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
    """w * x = sum_r down(W_r X, p - r):  X[j] = cat_c x[j + c - p],  W_r = cat_c w[:, :, r, c].

    Given: a dense convolution of several taps and stride 1, with as many channels as pay for the copies.
    Result: the input side by side with itself, moved by one column at a time; a 1x1 convolution of it for every row of
    the kernel; and the sum of the results, each moved down by the padding less the place of its row.

    Refused for kernels of one tap or of more columns than XNNPACK concatenates, few channels, dynamic sizes, float16,
    and padding that leaves a row of the kernel outside the image.
    """
    outputs, inputs, height, width = weight.shape
    vertical, horizontal = conv["padding"]
    require(height * width > 1, "it has one tap")
    require(width <= COLUMNS, "its kernel has {} columns, {} are concatenated at once", width, COLUMNS)
    require(inputs >= _INPUTS, "it has {} input channels, fewer than {}", inputs, _INPUTS)
    require(outputs >= _OUTPUTS, "it has {} output channels, fewer than {}", outputs, _OUTPUTS)
    require(outputs >= _OUTPUTS_PER_INPUT * inputs, "it has {} outputs for {} inputs", outputs, inputs)
    require(x.dtype != torch.float16, "it computes in float16, of which nothing was measured")
    require_fixed(conv.shape)
    rows, columns = conv.shape[-2:]
    size = x.shape[2]
    places = [row - vertical for row in range(height)]
    require(all(-rows < place < size for place in places), "a row of its kernel sees nothing but padding")
    padded = call("aten.constant_pad_nd", x, [horizontal, horizontal, 0, 0]) if horizontal else x
    beside = _side_by_side(padded, width, columns)
    # The bias is added once everywhere: to the row of the kernel that no padding replaces, if there is one.
    whole = next((row for row, place in enumerate(places) if place >= 0 and place + rows <= size), None)
    products = [
        _moved(
            call(
                "aten.conv2d",
                beside,
                weight[:, :, row].transpose(1, 2).reshape(outputs, width * inputs, 1, 1),
                bias if row == whole else None,
            ),
            place,
            rows,
        )
        for row, place in enumerate(places)
    ]
    total = reduce(lambda left, right: call("aten.add.Tensor", left, right), products)
    if bias is None or whole is not None:
        return total
    return call("aten.add.Tensor", total, bias.reshape(1, outputs, 1, 1))


def _side_by_side(x: Value, width: int, columns: int) -> Value:
    if width == 1:
        return x
    return call("aten.cat", [call("aten.slice.Tensor", x, 3, first, first + columns) for first in range(width)], 1)


def _moved(x: Value, place: int, rows: int) -> Value:
    """Rows ``place`` to ``place + rows`` of an image, zero where it has none."""
    size = x.shape[2]
    first, last = max(place, 0), min(place + rows, size)
    kept = x if (first, last) == (0, size) else call("aten.slice.Tensor", x, 2, first, last)
    above, below = first - place, place + rows - last
    return call("aten.constant_pad_nd", kept, [0, 0, above, below]) if above or below else kept
