"""Gather and scatter in every mode, against NumPy loops and coremltools' constant folding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from hycompile.errors import ArtifactError

_random = np.random.default_rng(0)
X = _random.normal(size=(3, 4, 5)).astype(np.float32)
ROWS = np.array([[2, 0], [1, -1]], dtype=np.int32)
ALONG = _random.integers(0, 4, (3, 6, 5)).astype(np.int32)
BATCHED = _random.integers(0, 4, (3, 2)).astype(np.int32)
POINTS = np.array([[0, 3], [2, 1], [0, 0]], dtype=np.int32)
TWICE = np.array([1, 3, 1], dtype=np.int32)
UPDATES = (_random.random((3, 3, 5)) + 0.5).astype(np.float32)
SPOTS = np.array([[0, 1], [2, 3], [0, 1]], dtype=np.int32)
SPOT_UPDATES = (_random.random((3, 5)) + 0.5).astype(np.float32)
MODES = ("update", "add", "sub", "mul", "div", "max", "min")


def _merge(old: Any, new: Any, mode: str) -> Any:
    return {
        "update": lambda: new,
        "add": lambda: old + new,
        "sub": lambda: old - new,
        "mul": lambda: old * new,
        "div": lambda: old / new,
        "max": lambda: torch.maximum(old, new),
        "min": lambda: torch.minimum(old, new),
    }[mode]()


def _scatter(mode: str) -> Callable[..., torch.Tensor]:
    def reference(data: torch.Tensor, indices: torch.Tensor, updates: torch.Tensor) -> torch.Tensor:
        result = data.clone()
        for i, at in enumerate(indices.tolist()):
            result[:, at] = _merge(result[:, at], updates[:, i], mode)
        return result

    return reference


def _scatter_along(mode: str) -> Callable[..., torch.Tensor]:
    def reference(data: torch.Tensor, indices: torch.Tensor, updates: torch.Tensor) -> torch.Tensor:
        result = data.clone()
        for i, j, k in np.ndindex(*indices.shape):
            at = int(indices[i, j, k])
            result[i, at, k] = _merge(result[i, at, k], updates[i, j, k], mode)
        return result

    return reference


def _scatter_nd(mode: str) -> Callable[..., torch.Tensor]:
    def reference(data: torch.Tensor, indices: torch.Tensor, updates: torch.Tensor) -> torch.Tensor:
        result = data.clone()
        for i, (row, column) in enumerate(indices.tolist()):
            result[row, column] = _merge(result[row, column], updates[i], mode)
        return result

    return reference


CASES: list[tuple[Any, ...]] = [
    ("gather", {"x": X, "indices": ROWS}, {"axis": 1}, lambda x, indices: x[:, indices], "iOS15"),
    ("gather", {"x": X, "indices": ROWS % 3}, {"axis": -3}),
    ("gather", {"x": X}, {"indices": np.int32(2), "axis": 1}, lambda x: x[:, 2]),
    ("gather", {"x": X, "indices": BATCHED}, {"axis": 1, "batch_dims": 1}),
    ("gather", {"x": X, "indices": np.array([2, 1], np.int16)}, {"axis": 2}),
    ("gather_along_axis", {"x": X, "indices": ALONG}, {"axis": 1}),
    (
        "gather_nd",
        {"x": X, "indices": POINTS},
        {},
        lambda x, indices: torch.stack([x[i, j] for i, j in indices.tolist()]),
    ),
    (
        "gather_nd",
        {"x": X, "indices": POINTS},
        {"batch_dims": 1},
        lambda x, indices: torch.stack([x[b, i, j] for b, (i, j) in enumerate(indices.tolist())]),
    ),
    *(
        ("scatter", {"data": X, "indices": TWICE, "updates": UPDATES}, {"axis": 1, "mode": m}, _scatter(m))
        for m in MODES
    ),
    *(
        (
            "scatter_along_axis",
            {"data": X, "indices": ALONG[:, :3], "updates": UPDATES},
            {"axis": 1, "mode": m},
            _scatter_along(m),
        )
        for m in MODES
        if m != "update"
    ),
    (
        "scatter_along_axis",
        {"data": X, "indices": ALONG[:, :1], "updates": UPDATES[:, :1]},
        {"axis": 1, "mode": "update"},
    ),
    *(
        ("scatter_nd", {"data": X, "indices": SPOTS, "updates": SPOT_UPDATES}, {"mode": m}, _scatter_nd(m))
        for m in MODES
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[2].get('mode', '')}")
def test_matches_reference(case: tuple[Any, ...], check: Callable[..., None]) -> None:
    check(*case)


def test_index_out_of_range_is_an_error(interpret: Callable[..., Any]) -> None:
    with pytest.raises(ArtifactError, match=r"operator gather 'gather_\d+': index 4: out of range for 4 elements"):
        interpret("gather", {"x": X, "indices": np.array([0, 4], np.int32)}, {"axis": 1})
