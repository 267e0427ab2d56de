"""Averages in the forms XNNPACK's delegate takes: over both axes of an image, kept, or a linear map."""

from __future__ import annotations

import torch

from hycompile.backends.executorch.forms.sizes import inferred, require_fixed
from hycompile.builder import Value, call
from hycompile.pattern import Any, Arg, Call
from hycompile.rewrite import require, rule


@rule(
    Call("aten.mean.dim", name="average", self=Any("x"), dim=Arg("dims"), keepdim=Arg("keepdim"), dtype=None),
    source="definition of the mean",
)
def expand_mean(average: Value, x: Value, dims: list[int], keepdim: bool) -> Value:
    """mean(x, axis) = linear(x^T, 1/n),  mean(x, (2, 3)) = reshape(mean(x, (2, 3), keepdim)).

    Given: a mean over one axis of fixed size, or over height and width without keeping them.
    Result: a linear with one output, the axis brought last; or the mean that is a global average pooling.

    Refused over other sets of axes, for a dynamic size, and where the form is right already.
    """
    rank = len(x.shape)
    over = sorted(dim % rank for dim in dims)
    image = rank == 4 and over == [2, 3]
    require(not (image and keepdim), "it is a global average pooling")
    if image:
        return call("aten.reshape", call("aten.mean.dim", x, [2, 3], True), inferred(average.shape))
    require(len(over) == 1 and rank > 1, "it averages over axes {} of {}", over, rank)
    (axis,) = over
    size = x.shape[axis]
    require_fixed([size])
    require(x.dtype != torch.float16, "in float16 its sum may leave the range")
    return _weighted_sum(average, x, axis, 1 / size, keepdim)


@rule(
    Call("aten.adaptive_avg_pool2d", self=Any("x"), output_size=[1, 1]),
    source="definition of adaptive pooling: one window is the whole image",
)
def average_whole_image(x: Value) -> Value:
    """adaptive_avg_pool2d(x, 1) = mean(x, (2, 3), keepdim).

    Given: global average pooling (CoAtNet's head).
    Result: the mean. Left alone it becomes one with ``as_strided`` behind it where ``x`` lies channels last.

    Refused for an image without a batch.
    """
    require(len(x.shape) == 4, "its input has {} axes", len(x.shape))
    return call("aten.mean.dim", x, [2, 3], True)


@rule(
    Call("aten.sum.dim_IntList", name="total", self=Any("x"), dim=Arg("dims"), keepdim=Arg("keepdim"), dtype=None),
    source="definition of the sum",
)
def expand_sum(total: Value, x: Value, dims: list[int] | None, keepdim: bool) -> Value:
    """sum(x, axis) = linear(x^T, 1).

    Given: a sum over one axis of fixed size (MobileViTv2's context vectors, SwiftFormer's global query).
    Result: a linear with one output whose weights are 1, the axis brought last.

    Refused over several axes, for a dynamic size, and in float16, whose range it may leave.
    """
    rank = len(x.shape)
    axes = dims or []
    require(len(axes) == 1 and rank > 1, "it adds over axes {} of {}", axes or "all", rank)
    axis = axes[0] % rank
    require_fixed([x.shape[axis]])
    require(x.dtype != torch.float16, "in float16 its sum may leave the range")
    return _weighted_sum(total, x, axis, 1.0, keepdim)


def _weighted_sum(whole: Value, x: Value, axis: int, weight: float, keepdim: bool) -> Value:
    """The sum of ``weight * x`` along an axis as a linear with one output; ``whole`` has the shape it must have."""
    rank = len(x.shape)
    last = x if axis == rank - 1 else call("aten.transpose.int", x, axis, -1)
    result = call("aten.linear", last, torch.full((1, x.shape[axis]), weight, dtype=torch.float64))
    if not keepdim:
        # The transpose left the former last axis where the summed one was: right order only if they are neighbours.
        result = call("aten.transpose.int", result, axis, -1) if axis < rank - 2 else result
        return call("aten.reshape", result, inferred(whole.shape))
    return result if axis == rank - 1 else call("aten.transpose.int", result, axis, -1)


@rule(
    Call(
        "aten.avg_pool1d",
        name="pool",
        self=Any("x"),
        kernel_size=Arg("kernel"),
        stride=Arg("stride"),
        padding=Arg("padding"),
        ceil_mode=Arg("ceil"),
    ),
    source="definition of average pooling",
)
def expand_average_pool1d(
    pool: Value, x: Value, kernel: list[int], stride: list[int], padding: list[int], ceil: bool
) -> Value:
    """avg_pool1d(x [B, C, n k]) = reshape(linear(reshape(x, [B, C, n, k]), 1/k)).

    Given: windows that tile the axis (Next-ViT pools the tokens of its keys).
    Result: a reshape and a linear with one output.

    Refused where windows overlap, leave a rest or reach beyond the border.
    """
    (size,) = kernel
    length = x.shape[-1]
    require_fixed([length])
    tiles = stride in ([], [size]) and padding == [0] and length % size == 0
    require(tiles, "windows of {} with stride {} and padding {} do not tile {}", size, stride, padding, length)
    require(x.dtype != torch.float16, "in float16 its sum may leave the range")
    windows = call("aten.reshape", x, inferred([*x.shape[:-1], length // size, size]))
    return call(
        "aten.reshape",
        call("aten.linear", windows, torch.full((1, size), 1 / size, dtype=torch.float64)),
        inferred(pool.shape),
    )


@rule(
    Call("aten.avg_pool2d", name="pool", self=Any("x"), ceil_mode=True),
    source="definition of ceil_mode: it adds a partial window where one is left",
)
def drop_ceil_mode(pool: Value, x: Value) -> Value:
    """avg_pool2d(x, ceil) = avg_pool2d(x) where the windows tile the padded image.

    Refused where a partial window is left: it has another divisor.
    """
    kernel, padding = pool["kernel_size"], pool["padding"]
    stride = pool["stride"] or kernel
    windows = zip(x.shape[2:], _pair(kernel), _pair(stride), _pair(padding), strict=True)
    rests = [(size + 2 * pad - window) % step for size, window, step, pad in windows]
    require(rests == [0, 0], "{} positions are left for a partial window", rests)
    return call("aten.avg_pool2d", x, kernel, stride, padding, False, pool["count_include_pad"])


@rule(
    Call("aten.avg_pool2d", name="pool", self=Any("x"), count_include_pad=True, ceil_mode=False),
    source="definition of count_include_pad: zeros beyond the border count",
)
def pad_before_pool(pool: Value, x: Value) -> Value:
    """avg_pool2d(x, padding, counted) = avg_pool2d(pad(x)).

    Refused without padding, where there is nothing to do.
    """
    height, width = _pair(pool["padding"])
    require(height or width, "it has no padding")
    padded = call("aten.constant_pad_nd", x, [width, width, height, height], 0.0)
    stride = pool["stride"] or pool["kernel_size"]
    return call("aten.avg_pool2d", padded, pool["kernel_size"], stride, [0, 0], False, False)


def _pair(values: list[int]) -> list[int]:
    return values * 2 if len(values) == 1 else values
