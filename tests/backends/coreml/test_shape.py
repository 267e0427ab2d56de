"""Operators that rearrange elements, against NumPy, torch and coremltools' constant folding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

_random = np.random.default_rng(0)
X = _random.normal(size=(2, 3, 4)).astype(np.float32)
THIN = _random.normal(size=(1, 3, 1, 4)).astype(np.float32)
IMAGE = _random.normal(size=(4, 8, 4, 6)).astype(np.float32)
INTS = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
UPDATE = _random.normal(size=(2, 2, 4)).astype(np.float32)
PATCH = _random.normal(size=(2, 4)).astype(np.float32)


def _depth_to_space(x: torch.Tensor, b: int = 2) -> torch.Tensor:
    """TensorFlow's order: the two block indices are the slowest part of the channel."""
    n, c, h, w = x.shape
    result = torch.zeros(n, c // b**2, h * b, w * b)
    for i in range(b):
        for j in range(b):
            result[:, :, i::b, j::b] = x[:, (i * b + j) * (c // b**2) : (i * b + j + 1) * (c // b**2)]
    return result


def _space_to_depth(x: torch.Tensor, b: int = 2) -> torch.Tensor:
    return torch.cat([x[:, :, i::b, j::b] for i in range(b) for j in range(b)], 1)


def _space_to_batch(x: torch.Tensor) -> torch.Tensor:
    padded = F.pad(x, (1, 2, 0, 0))
    return torch.cat([padded[:, :, i::2, j::3] for i in range(2) for j in range(3)], 0)


def _batch_to_space(x: torch.Tensor) -> torch.Tensor:
    result = torch.zeros(1, x.shape[1], x.shape[2] * 2, x.shape[3] * 2)
    for i in range(2):
        for j in range(2):
            result[:, :, i::2, j::2] = x[2 * i + j]
    return result[:, :, 1:, : x.shape[3] * 2 - 2]


def _updated(part: tuple[Any, ...]) -> Callable[..., torch.Tensor]:
    def reference(x: torch.Tensor, update: torch.Tensor) -> torch.Tensor:
        result = x.clone()
        result[part] = update
        return result

    return reference


FREE_ENDS = {
    "begin": [0, 1, 1],
    "end": [9, 0, -1],
    "begin_mask": [True, False, False],
    "end_mask": [False, True, False],
}
ONE_ROW = {"begin": [1, -1, 0], "end": [2, 0, 4], "stride": [1, 1, 2], "squeeze_mask": [False, True, False]}

CASES: list[tuple[Any, ...]] = [
    ("reshape", {"x": X}, {"shape": [4, -1]}),
    ("reshape", {"x": X}, {"shape": [1, 0, 3, 0]}, lambda x: x.reshape(1, 2, 3, 4), "iOS17"),
    ("reshape", {"x": X}, {"shape": [0, 0, -1]}, lambda x: x, "iOS15"),
    (
        "reshape_like",
        {"x": X, "ref_tensors": [np.zeros((3, 2, 9), np.float32), np.zeros((7, 4), np.float32)]},
        {
            "begins": [np.int32(0), np.int32(1)],
            "ends": [np.int32(2), np.int32(0)],
            "end_masks": [np.bool_(False), np.bool_(True)],
        },
        lambda x, ref_tensors: x.reshape(3, 2, 4),
    ),
    ("shape", {"x": X}, {}),
    ("expand_dims", {"x": X}, {"axes": [0, -1, 2]}),
    ("squeeze", {"x": THIN}, {"axes": [0, 2]}),
    ("squeeze", {"x": THIN}, {}),
    ("flatten2d", {"x": X}, {"axis": 2}, lambda x: x.reshape(6, 4)),
    ("flatten2d", {"x": X}, {"axis": -2}, lambda x: x.reshape(2, 12)),
    ("transpose", {"x": X}, {"perm": [2, 0, -2]}),
    ("concat", {"values": [X, X[:1]]}, {"axis": 0}),
    (
        "concat",
        {"values": [X, X + 1]},
        {"axis": 1, "interleave": True},
        lambda values: torch.stack(values, 2).reshape(2, 6, 4),
    ),
    ("stack", {"values": [X, X + 1]}, {"axis": -1}),
    ("split", {"x": X}, {"axis": 2, "split_sizes": [1, 3]}),
    ("split", {"x": X}, {"axis": -1, "num_splits": 2}),
    ("tile", {"x": X}, {"reps": [2, 1, 3]}),
    ("reverse", {"x": X}, {"axes": [0, -1]}),
    ("reverse", {"x": X}, {}),
    ("pad", {"x": X}, {"pad": [1, 2, 0, 3], "mode": "constant", "constant_val": np.float32(1.5)}),
    ("pad", {"x": X}, {"pad": [0, 0, 2, 1, 3, 0], "mode": "reflect"}),
    ("pad", {"x": X}, {"pad": [2, 1, 0, 3], "mode": "replicate"}, lambda x: F.pad(x, (0, 3, 2, 1), "replicate")),
    ("pixel_shuffle", {"x": IMAGE}, {"upscale_factor": 2}, lambda x: F.pixel_shuffle(x, 2)),
    ("pixel_unshuffle", {"x": IMAGE}, {"downscale_factor": np.uint32(2)}, lambda x: F.pixel_unshuffle(x, 2)),
    ("depth_to_space", {"x": IMAGE}, {"block_size": 2}, _depth_to_space),
    ("space_to_depth", {"x": IMAGE}, {"block_size": 2}, _space_to_depth),
    ("space_to_batch", {"x": IMAGE}, {"block_shape": [2, 3], "paddings": [[0, 0], [1, 2]]}, _space_to_batch),
    ("batch_to_space", {"x": IMAGE}, {"block_shape": [2, 2], "crops": [[1, 0], [0, 2]]}, _batch_to_space),
    (
        "sliding_windows",
        {"x": X},
        {"axis": 1, "size": 2},
        lambda x: torch.stack([x[:, i : i + 2] for i in range(2)], 1),
    ),
    ("slice_by_size", {"x": X}, {"begin": [0, -2, 1], "size": [2, 1, -1]}),
    ("slice_by_index", {"x": X}, {"begin": [0, 2, -3], "end": [2, 0, 4], "stride": [1, -1, 2]}),
    ("slice_by_index", {"x": INTS}, FREE_ENDS, lambda x: x[:9, 1:, 1:-1]),
    ("slice_by_index", {"x": X}, {"begin": [0, 1, 0], "end": [9, 0, 3], "end_mask": [False, True, False]}),
    ("slice_by_index", {"x": X}, ONE_ROW),
    ("slice_update", {"x": X, "update": UPDATE}, {"begin": [0, 1, 0], "end": [2, 3, 4]}),
    (
        "slice_update",
        {"x": X, "update": PATCH[:1, ::2].copy()},
        ONE_ROW,
        lambda x, update: _updated((slice(1, 2), 2, slice(0, 4, 2)))(x, update),
    ),
    ("slice_update", {"x": X, "update": X[:, :2, :2] * 2}, FREE_ENDS),
    ("band_part", {"x": X}, {"lower": 1, "upper": 0}),
    ("band_part", {"x": X}, {"lower": -1, "upper": 1}),
    ("band_part", {"x": INTS}, {"lower": 0, "upper": -1}),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_matches_reference(case: tuple[Any, ...], check: Callable[..., None]) -> None:
    check(*case)
