"""Operators that make and resample tensors, against torch and the sample positions MIL documents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hycompile.backends.coreml.interpreter.resize import grid_points
from hycompile.errors import Unsupported

_random = np.random.default_rng(0)
IMAGE = _random.normal(size=(2, 3, 5, 4)).astype(np.float32)
INDICES = np.array([[0, 2], [1, 0]], dtype=np.int32)
SPARSE = np.array([[0, 1.5, 0], [2, 0, 3]], dtype=np.float32)
COORDINATES = (_random.random((2, 3, 6, 2)) * 2.4 - 1.2).astype(np.float32)
SCALES = {"scale_factor_height": np.float32(2.0), "scale_factor_width": np.float32(1.5)}
TARGET = {"target_size_height": 9, "target_size_width": 7}
RESAMPLE = {"padding_value": np.float32(0), "coordinates_mode": "normalized_minus_one_to_one"}


def _bilinear(**options: Any) -> Callable[..., torch.Tensor]:
    return lambda x: F.interpolate(x, mode="bilinear", **options)


def _sampled(padding: str, mode: str, aligned: bool) -> Callable[..., torch.Tensor]:
    return lambda x, coordinates: F.grid_sample(x, coordinates, mode, padding, aligned)


def _resize(mode: str, sampling: str) -> dict[str, Any]:
    return {"shape": [9, 0], "resized_dims": np.uint32(2), "interpolation_mode": mode, "sampling_mode": sampling}


CASES: list[tuple[Any, ...]] = [
    ("fill", {"shape": np.array([2, 3], np.int32)}, {"value": np.float32(1.5)}, lambda shape: torch.full((2, 3), 1.5)),
    ("fill_like", {"ref_tensor": IMAGE}, {"value": np.float32(2)}, lambda ref_tensor: torch.full_like(ref_tensor, 2)),
    ("range_1d", {}, {"start": np.int32(2), "end": np.int32(11), "step": np.int32(3)}),
    ("range_1d", {}, {"start": np.float32(0), "end": np.float32(1), "step": np.float32(0.25)}),
    (
        "one_hot",
        {"indices": INDICES},
        {"one_hot_vector_size": 3, "axis": 1, "on_value": np.float32(5), "off_value": np.float32(-1)},
        lambda indices: torch.where(F.one_hot(indices.long(), 3) == 1, 5.0, -1.0).movedim(-1, 1),
    ),
    ("one_hot", {"indices": INDICES}, {"one_hot_vector_size": 3}, lambda indices: F.one_hot(indices.long(), 3)),
    ("non_zero", {"x": SPARSE}, {}),
    ("upsample_nearest_neighbor", {"x": IMAGE}, SCALES, lambda x: F.interpolate(x, (10, 6)), "iOS18", False),
    ("resize_nearest_neighbor", {"x": IMAGE}, TARGET, lambda x: F.interpolate(x, (9, 7))),
    ("upsample_bilinear", {"x": IMAGE}, SCALES, _bilinear(size=(10, 6), align_corners=True), "iOS18", False),
    (
        "upsample_bilinear",
        {"x": IMAGE},
        {**SCALES, "align_corners": False},
        _bilinear(size=(10, 6), align_corners=False),
        "iOS15",
        False,
    ),
    (
        "resize_bilinear",
        {"x": IMAGE},
        {**TARGET, "sampling_mode": "STRICT_ALIGN_CORNERS"},
        _bilinear(size=(9, 7), align_corners=True),
    ),
    (
        "resize_bilinear",
        {"x": IMAGE},
        {**TARGET, "sampling_mode": "UNALIGN_CORNERS"},
        _bilinear(size=(9, 7), align_corners=False),
    ),
    ("resize", {"x": IMAGE}, _resize("LINEAR", "UNALIGN_CORNERS"), _bilinear(size=(9, 4), align_corners=False)),
    ("resize", {"x": IMAGE}, _resize("NEAREST_NEIGHBOR", "DEFAULT"), lambda x: F.interpolate(x, (9, 4))),
    ("crop", {"x": IMAGE}, {"crop_height": [1, 2], "crop_width": [0, 1]}, lambda x: x[:, :, 1:-2, :-1]),
    *(
        (
            "resample",
            {"x": IMAGE, "coordinates": COORDINATES},
            {**RESAMPLE, "sampling_mode": mode, "padding_mode": padding, "align_corners": aligned},
            _sampled({"constant": "zeros"}.get(padding, padding), mode, aligned),
        )
        for mode, padding, aligned in (
            ("bilinear", "constant", True),
            ("nearest", "border", False),
            ("bilinear", "reflection", False),
        )
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_matches_reference(case: tuple[Any, ...], check: Callable[..., None]) -> None:
    check(*case)


@pytest.mark.parametrize(
    ("mode", "size", "points"),
    [
        ("UNALIGN_CORNERS", 5, [0.0, 0.1, 0.5, 0.9, 1.0]),
        ("STRICT_ALIGN_CORNERS", 5, [0.0, 0.25, 0.5, 0.75, 1.0]),
        ("ALIGN_CORNERS", 6, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        ("ALIGN_CORNERS", 1, [0.5]),
        ("DEFAULT", 5, [0.0, 0.4, 0.8, 1.0, 1.0]),
        ("OFFSET_CORNERS", 5, [0.1, 0.3, 0.5, 0.7, 0.9]),
        ("OFFSET_CORNERS", 6, [1 / 12, 3 / 12, 5 / 12, 7 / 12, 9 / 12, 11 / 12]),
    ],
)
def test_grid_points_are_those_of_the_operator_definition(mode: str, size: int, points: list[float]) -> None:
    """The worked examples of MIL's resize_bilinear, for two input elements."""
    np.testing.assert_allclose(grid_points(mode, 2, size).numpy(), points, atol=1e-12)


def test_unknown_sampling_is_refused(interpret: Callable[..., Any]) -> None:
    with pytest.raises(Unsupported, match="nearest resize with UNALIGN_CORNERS: its rounding is not documented"):
        interpret("resize", {"x": IMAGE}, _resize("NEAREST_NEIGHBOR", "UNALIGN_CORNERS"))
