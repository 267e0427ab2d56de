"""Convolution and pooling under every padding, against torch on explicitly padded inputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

_random = np.random.default_rng(0)


def _normal(*shape: int) -> np.ndarray:
    return _random.normal(size=shape).astype(np.float32)


IMAGE, LINE, VOLUME = _normal(2, 4, 9, 8), _normal(2, 4, 11), _normal(1, 2, 5, 6, 7)
DENSE, GROUPED, BIAS = _normal(6, 4, 3, 2), _normal(6, 2, 3, 3), _normal(6)
UP, UP_GROUPED, UP_BIAS = _normal(4, 6, 3, 3), _normal(4, 3, 4, 2), _normal(6)
SOLID = _normal(3, 2, 3, 3, 3)
THIN = _normal(6, 4, 3)


def _torch(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array)


def _conv(weight: np.ndarray, pads: list[int], bias: np.ndarray | None = None, **options: Any) -> Callable[..., Tensor]:
    def reference(x: Tensor) -> Tensor:
        function = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[x.dim()]
        return function(F.pad(x, pads), _torch(weight), None if bias is None else _torch(bias), **options)

    return reference


def _pooled(kind: str, pads: list[int], kernel: list[int], stride: list[int]) -> Callable[..., Tensor]:
    def reference(x: Tensor) -> Tensor:
        if kind == "max":
            return F.max_pool2d(F.pad(x, pads, value=-torch.inf), kernel, stride)
        if kind == "l2":
            return F.avg_pool2d(F.pad(x, pads).square(), kernel, stride).mul(math.prod(kernel)).sqrt()
        inside = F.avg_pool2d(F.pad(torch.ones_like(x), pads, value=float(kind == "avg")), kernel, stride)
        return F.avg_pool2d(F.pad(x, pads), kernel, stride) / inside

    return reference


def _ceil(kind: str, include: bool) -> Callable[..., Tensor]:
    def reference(x: Tensor) -> Tensor:
        if kind == "max":
            return F.max_pool2d(x, 3, 2, padding=1, ceil_mode=True)
        return F.avg_pool2d(x, 3, 2, padding=1, ceil_mode=True, count_include_pad=include)

    return reference


# 'same' of a 9x8 image, kernel 3x2, stride 2: one row before and after; no column, as 8 columns divide evenly.
SAME = {"pad_type": "same", "strides": [2, 2]}
KERNEL = {"kernel_sizes": [3, 2]}
ODD = {"kernel_sizes": [4, 3], "strides": [2, 2]}  # 9 -> 5 rows: 4 - 1 = 3 in all; 8 -> 4 columns: 1 in all
CUSTOM = {"kernel_sizes": [3, 3], "strides": [2, 1], "pad_type": "custom", "pad": [1, 2, 0, 1]}
CEIL = {"kernel_sizes": [3, 3], "strides": [2, 2], "pad_type": "custom", "pad": [1, 1, 1, 1], "ceil_mode": True}

CASES: list[tuple[Any, ...]] = [
    ("conv", {"x": IMAGE}, {"weight": DENSE, "bias": BIAS, "pad_type": "valid"}, _conv(DENSE, [0] * 4, BIAS)),
    ("conv", {"x": IMAGE}, {"weight": DENSE, **SAME}, _conv(DENSE, [0, 0, 1, 1], stride=2)),
    (
        "conv",
        {"x": IMAGE},
        {"weight": GROUPED, "groups": 2, "pad_type": "custom", "pad": [1, 0, 2, 2], "dilations": [2, 1]},
        _conv(GROUPED, [2, 2, 1, 0], groups=2, dilation=(2, 1)),
    ),
    ("conv", {"x": IMAGE}, {"weight": DENSE, "pad_type": "same"}, _conv(DENSE, [0, 1, 1, 1])),
    ("conv", {"x": IMAGE}, {"weight": DENSE, "pad_type": "same_lower"}, _conv(DENSE, [1, 0, 1, 1])),
    ("conv", {"x": LINE}, {"weight": THIN, "pad_type": "custom", "pad": [1, 1]}, _conv(THIN, [1, 1])),
    ("conv", {"x": VOLUME}, {"weight": SOLID, "pad_type": "valid"}, _conv(SOLID, [0] * 6)),
    ("conv", {"x": IMAGE, "weight": DENSE}, {"pad_type": "valid"}, lambda x, weight: F.conv2d(x, weight)),
    (
        "conv_transpose",
        {"x": IMAGE},
        {"weight": UP, "bias": UP_BIAS, "pad_type": "custom", "pad": [1, 1, 0, 2], "strides": [2, 2]},
        lambda x: F.conv_transpose2d(x, _torch(UP), _torch(UP_BIAS), 2)[:, :, 1:-1, :-2],
    ),
    (
        "conv_transpose",
        {"x": IMAGE},
        {"weight": UP_GROUPED, "groups": 2, "dilations": [1, 2], "pad_type": "valid"},
        lambda x: F.conv_transpose2d(x, _torch(UP_GROUPED), None, groups=2, dilation=(1, 2)),
    ),
    (
        "conv_transpose",
        {"x": IMAGE},
        {
            "weight": UP,
            "bias": UP_BIAS,
            "pad_type": "custom",
            "pad": [1, 1, 1, 1],
            "strides": [2, 2],
            "output_shape": [2, 6, 18, 16],
        },
        lambda x: F.conv_transpose2d(x, _torch(UP), _torch(UP_BIAS), 2, padding=1, output_padding=1),
    ),
    (
        "conv_transpose",
        {"x": IMAGE},
        {"weight": UP, "pad_type": "same", "strides": [2, 2]},
        lambda x: F.conv_transpose2d(x, _torch(UP), None, 2)[:, :, :18, :16],
    ),
    ("avg_pool", {"x": IMAGE}, {**ODD, "pad_type": "valid"}, lambda x: F.avg_pool2d(x, (4, 3), 2)),
    ("avg_pool", {"x": IMAGE}, CUSTOM, _pooled("avg", [0, 1, 1, 2], [3, 3], [2, 1])),
    (
        "avg_pool",
        {"x": IMAGE},
        {**CUSTOM, "exclude_padding_from_average": True},
        _pooled("inside", [0, 1, 1, 2], [3, 3], [2, 1]),
    ),
    ("avg_pool", {"x": IMAGE}, {**ODD, "pad_type": "same"}, _pooled("avg", [0, 1, 1, 2], [4, 3], [2, 2])),
    ("avg_pool", {"x": IMAGE}, CEIL, _ceil("avg", True)),
    ("avg_pool", {"x": IMAGE}, {**CEIL, "exclude_padding_from_average": True}, _ceil("avg", False)),
    ("avg_pool", {"x": LINE}, {"kernel_sizes": [3], "pad_type": "valid"}, lambda x: F.avg_pool1d(x, 3, 1)),
    ("avg_pool", {"x": VOLUME}, {"kernel_sizes": [2, 2, 2], "pad_type": "valid"}, lambda x: F.avg_pool3d(x, 2, 1)),
    ("max_pool", {"x": IMAGE}, {**ODD, "pad_type": "same_lower"}, _pooled("max", [1, 0, 2, 1], [4, 3], [2, 2])),
    ("max_pool", {"x": IMAGE}, CUSTOM, _pooled("max", [0, 1, 1, 2], [3, 3], [2, 1])),
    ("max_pool", {"x": IMAGE}, CEIL, _ceil("max", True)),
    ("l2_pool", {"x": IMAGE}, {**ODD, "pad_type": "same"}, _pooled("l2", [0, 1, 1, 2], [4, 3], [2, 2])),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_matches_torch(case: tuple[Any, ...], check: Callable[..., None]) -> None:
    check(*case)
