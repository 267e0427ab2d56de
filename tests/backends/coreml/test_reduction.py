"""Reductions and ordering, against coremltools' constant folding and torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

X = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
POSITIVE = np.abs(X) + np.float32(0.5)
INTS = np.random.default_rng(1).permutation(24).astype(np.int32).reshape(2, 3, 4)
ASCENDING = {"axis": 1, "ascending": True}


def _largest(x: torch.Tensor, k: int, axis: int, sign: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """By NumPy: the ``k`` largest (``sign`` -1: smallest) values and their places."""
    places = np.argsort(-sign * x.numpy(), axis, "stable").take(range(k), axis)
    return np.take_along_axis(x.numpy(), places, axis), places


_KINDS = ("max", "min", "sum", "mean", "l1_norm", "l2_norm", "sum_square", "log_sum_exp", "prod")
CASES: list[tuple[Any, ...]] = [
    *((f"reduce_{kind}", {"x": X}, {"axes": [0, -1], "keep_dims": True}) for kind in _KINDS),
    *((f"reduce_{kind}", {"x": X}, {"axes": [1]}) for kind in _KINDS),
    *((f"reduce_{kind}", {"x": INTS}, {"axes": [1]}) for kind in ("max", "min", "sum")),
    ("reduce_log_sum", {"x": POSITIVE}, {"axes": [2]}),
    ("reduce_max", {"x": X}, {"keep_dims": True}),
    ("reduce_argmax", {"x": X}, {"axis": 1}),
    ("reduce_argmin", {"x": X}, {"axis": -1, "keep_dims": True}),
    ("reduce_argmax", {"x": X}, {"axis": 0, "output_dtype": "uint16"}, lambda x: torch.argmax(x, 0)),
    ("argsort", {"x": X}, {"axis": 2}, lambda x: np.argsort(-x.numpy(), 2, "stable")),
    ("argsort", {"x": INTS}, ASCENDING, lambda x: np.argsort(x.numpy(), 1, "stable")),
    ("topk", {"x": X}, {"k": 2, "axis": -1}, lambda x: _largest(x, 2, -1)),
    ("topk", {"x": X}, {"k": 2, **ASCENDING}, lambda x: _largest(x, 2, 1, -1)),
    ("topk", {"x": X}, {"k": 2, "axis": -1, "return_indices": False}, lambda x: _largest(x, 2, -1)[0]),
    ("topk", {"x": X}, {"k": 1, "axis": 1}, lambda x: _largest(x, 1, 1), "iOS15"),
    ("cumsum", {"x": X}, {"axis": 1}),
    ("cumsum", {"x": INTS}, {"axis": 2}),
    ("cumsum", {"x": X}, {"axis": 2, "reverse": True}),
    ("cumsum", {"x": X}, {"axis": 1, "exclusive": True}, lambda x: torch.cumsum(x, 1) - x),
    (
        "cumsum",
        {"x": X},
        {"axis": 0, "exclusive": True, "reverse": True},
        lambda x: torch.stack([x[1], torch.zeros_like(x[1])]),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_matches_reference(case: tuple[Any, ...], check: Callable[..., None]) -> None:
    check(*case)
