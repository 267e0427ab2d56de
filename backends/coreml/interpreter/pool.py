"""Average, maximum and L2 pooling of one, two or three spatial dimensions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from hycompile.backends.coreml.interpreter import padding
from hycompile.backends.coreml.interpreter.registry import ints, operator

_AVERAGE = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_MAXIMUM = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
Pads = list[tuple[int, int]]


def _beyond(size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], pads: Pads) -> Pads:
    """What ``ceil_mode`` adds after the padding, so that the last window fits; as in PyTorch."""
    added: Pads = []
    for n, k, s, (before, after) in zip(size, kernel, stride, pads, strict=True):
        count = -(-(n + before + after - k) // s) + 1
        if (count - 1) * s >= n + before and before + after > 0:
            count -= 1
        added.append((0, max(0, (count - 1) * s + k - n - before - after)))
    return added


def _geometry(
    x: Tensor, kernel: list[int], strides: Tensor, pad_type: str, pad: Tensor, ceil_mode: Tensor
) -> tuple[list[int], Pads, Pads]:
    stride, size = ints(strides), list(x.shape[2:])
    pads = padding.amounts(pad_type, size, kernel, stride, ints(pad))
    beyond = _beyond(size, kernel, stride, pads) if bool(ceil_mode) else [(0, 0)] * len(size)
    return stride, pads, beyond


def _window_sums(x: Tensor, kernel: list[int], stride: list[int]) -> Tensor:
    return _AVERAGE[len(kernel)](x, kernel, stride) * math.prod(kernel)


@operator("avg_pool")
def avg_pool(
    x: Tensor,
    kernel_sizes: Tensor,
    strides: Tensor,
    pad_type: str,
    pad: Tensor,
    ceil_mode: Tensor,
    exclude_padding_from_average: Tensor,
) -> Tensor:
    """Window sums over window sizes; padding counts unless excluded, what ``ceil_mode`` adds never does."""
    kernel = ints(kernel_sizes)
    stride, pads, beyond = _geometry(x, kernel, strides, pad_type, pad, ceil_mode)
    ones = torch.ones(1, 1, *x.shape[2:], dtype=x.dtype)
    counted = padding.apply(ones, pads, 0.0 if bool(exclude_padding_from_average) else 1.0)
    sums = _window_sums(padding.apply(padding.apply(x, pads), beyond), kernel, stride)
    return sums / _window_sums(padding.apply(counted, beyond), kernel, stride)


@operator("l2_pool")
def l2_pool(x: Tensor, kernel_sizes: Tensor, strides: Tensor, pad_type: str, pad: Tensor, ceil_mode: Tensor) -> Tensor:
    """Square root of the window's sum of squares."""
    kernel = ints(kernel_sizes)
    stride, pads, beyond = _geometry(x, kernel, strides, pad_type, pad, ceil_mode)
    return torch.sqrt(_window_sums(padding.apply(padding.apply(x.square(), pads), beyond), kernel, stride))


@operator("max_pool")
def max_pool(x: Tensor, kernel_sizes: Tensor, strides: Tensor, pad_type: str, pad: Tensor, ceil_mode: Tensor) -> Tensor:
    """Largest element of each window; padding never wins."""
    kernel = ints(kernel_sizes)
    stride, pads, beyond = _geometry(x, kernel, strides, pad_type, pad, ceil_mode)
    padded = padding.apply(padding.apply(x, pads, -math.inf), beyond, -math.inf)
    return _MAXIMUM[len(kernel)](padded, kernel, stride)
