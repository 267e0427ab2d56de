"""Activations, against coremltools' constant folding, and against torch where coremltools has none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

X = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32) * 2
ALPHA, BETA = np.float32(0.3), np.float32(1.4)
PER_CHANNEL = np.array([0.1, 0.2, -0.5], dtype=np.float32)
SCALES = np.array([1.5, 0.5, 2.0], dtype=np.float32)
BOTH = {"alpha": ALPHA, "beta": BETA}

CASES: list[tuple[Any, ...]] = [
    *((name, {"x": X}, {}) for name in ("relu", "relu6", "sigmoid", "softplus")),
    ("silu", {"x": X}, {}, lambda x: F.silu(x)),
    ("softsign", {"x": X}, {}),
    *((name, {"x": X}, {"alpha": ALPHA}) for name in ("leaky_relu", "elu", "thresholded_relu")),
    *((name, {"x": X}, BOTH) for name in ("clamped_relu", "linear_activation", "scaled_tanh", "sigmoid_hard")),
    ("prelu", {"x": X}, {"alpha": PER_CHANNEL}),
    ("softplus_parametric", {"x": X}, {"alpha": SCALES, "beta": SCALES[::-1].copy()}),
    ("gelu", {"x": X}, {"mode": "EXACT"}),
    ("gelu", {"x": X}, {"mode": "TANH_APPROXIMATION"}),
    ("gelu", {"x": X}, {"mode": "SIGMOID_APPROXIMATION"}),
    ("softmax", {"x": X}, {"axis": 1}),
    ("softmax", {"x": X}, {"axis": -1}, lambda x: torch.softmax(x, -1)),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_matches_reference(case: tuple[Any, ...], check: Callable[..., None]) -> None:
    check(*case)
