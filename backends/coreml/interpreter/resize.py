"""Resizing and resampling of the last two dimensions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hycompile.backends.coreml.interpreter.registry import ints, operator
from hycompile.errors import Unsupported


def grid_points(mode: str, size_in: int, size_out: int) -> Tensor:
    """Where along ``size_in`` each of ``size_out`` samples lies, by MIL's sampling modes; float64 [size_out]."""
    i = torch.arange(size_out, dtype=torch.float64)
    if mode == "ALIGN_CORNERS" and size_out == 1:
        points = torch.full((1,), (size_in - 1) / 2, dtype=torch.float64)
    elif mode in ("ALIGN_CORNERS", "STRICT_ALIGN_CORNERS"):
        points = i * ((size_in - 1) / max(size_out - 1, 1))
    elif mode == "DEFAULT":
        points = i * (size_in / size_out)
    elif mode == "OFFSET_CORNERS":
        points = (i + 0.5) * (max(1, size_in - 1) / size_out)
    elif mode == "UNALIGN_CORNERS":
        points = (i + 0.5) * (size_in / size_out) - 0.5
    else:
        raise Unsupported(
            f"sampling mode {mode!r}", "the interpreter does not know it", "use one of MIL's documented modes"
        )
    return points.clamp(0, size_in - 1)


def _interpolate(x: Tensor, axis: int, points: Tensor) -> Tensor:
    low = points.floor().long()
    high = (low + 1).clamp(max=x.shape[axis] - 1)
    weight = (points - low).to(x.dtype).reshape([-1 if d == axis % x.dim() else 1 for d in range(x.dim())])
    return x.index_select(axis, low) * (1 - weight) + x.index_select(axis, high) * weight


def _bilinear(x: Tensor, height: int, width: int, mode: str) -> Tensor:
    x = _interpolate(x, -2, grid_points(mode, x.shape[-2], height))
    return _interpolate(x, -1, grid_points(mode, x.shape[-1], width))


def _nearest(x: Tensor, height: int, width: int) -> Tensor:
    """Sample i takes element floor(i * size_in / size_out)."""
    for axis, size in ((-2, height), (-1, width)):
        positions = torch.arange(size) * x.shape[axis] // size
        x = x.index_select(axis, positions)
    return x


def _scaled(x: Tensor, scale_height: Tensor, scale_width: Tensor) -> tuple[int, int]:
    return int(x.shape[-2] * float(scale_height)), int(x.shape[-1] * float(scale_width))


@operator("upsample_nearest_neighbor", moves=True)
def upsample_nearest_neighbor(x: Tensor, scale_factor_height: Tensor, scale_factor_width: Tensor) -> Tensor:
    """Sizes floor(size * scale), nearest element."""
    return _nearest(x, *_scaled(x, scale_factor_height, scale_factor_width))


@operator("resize_nearest_neighbor", moves=True)
def resize_nearest_neighbor(x: Tensor, target_size_height: Tensor, target_size_width: Tensor) -> Tensor:
    """The given sizes, nearest element."""
    return _nearest(x, int(target_size_height), int(target_size_width))


@operator("upsample_bilinear")
def upsample_bilinear(
    x: Tensor,
    scale_factor_height: Tensor,
    scale_factor_width: Tensor,
    align_corners: Tensor,
    half_pixel_centers: Tensor | None = None,
) -> Tensor:
    """Sizes floor(size * scale); the spacing follows from the sizes, as with PyTorch's recomputed scale factor."""
    aligned = bool(align_corners)
    centred = not aligned if half_pixel_centers is None else bool(half_pixel_centers)
    if aligned and centred:
        raise Unsupported(
            "upsample_bilinear", "aligned corners with half-pixel centres are not documented", "choose one of the two"
        )
    mode = "STRICT_ALIGN_CORNERS" if aligned else "UNALIGN_CORNERS" if centred else "DEFAULT"
    return _bilinear(x, *_scaled(x, scale_factor_height, scale_factor_width), mode)


@operator("resize_bilinear")
def resize_bilinear(x: Tensor, target_size_height: Tensor, target_size_width: Tensor, sampling_mode: str) -> Tensor:
    """The given sizes, bilinear between the grid points of ``sampling_mode``."""
    return _bilinear(x, int(target_size_height), int(target_size_width), sampling_mode)


@operator("resize")
def resize(x: Tensor, shape: Tensor, resized_dims: Tensor, interpolation_mode: str, sampling_mode: str) -> Tensor:
    """The last ``resized_dims`` (one or two) dimensions to the last sizes of ``shape``, 0 keeping a size."""
    count = int(resized_dims)
    wanted = [size or x.shape[i - count] for i, size in enumerate(ints(shape)[-count:])]
    height, width = wanted if count == 2 else (x.shape[-2], *wanted)
    if interpolation_mode == "NEAREST_NEIGHBOR" and sampling_mode != "DEFAULT":
        raise Unsupported(
            f"nearest resize with {sampling_mode}", "its rounding is not documented", "use DEFAULT sampling"
        )
    return (
        _nearest(x, height, width)
        if interpolation_mode == "NEAREST_NEIGHBOR"
        else _bilinear(x, height, width, sampling_mode)
    )


@operator("crop", moves=True)
def crop(x: Tensor, crop_height: Tensor, crop_width: Tensor) -> Tensor:
    """Without the given numbers of rows at top and bottom and of columns at left and right."""
    (top, bottom), (left, right) = ints(crop_height), ints(crop_width)
    return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]


@operator("resample")
def resample(
    x: Tensor,
    coordinates: Tensor,
    sampling_mode: str,
    padding_mode: str,
    padding_value: Tensor,
    coordinates_mode: str,
    align_corners: Tensor,
) -> Tensor:
    """PyTorch's grid_sample: x [B, C, H, W] at coordinates [B, H', W', 2] (x first) in [-1, 1]."""
    modes = {"constant": "zeros", "border": "border", "reflection": "reflection"}
    if coordinates_mode != "normalized_minus_one_to_one" or padding_mode not in modes or float(padding_value) != 0:
        raise Unsupported(
            f"resample with {coordinates_mode}, {padding_mode} {float(padding_value)}",
            "the interpreter knows coordinates in [-1, 1] and zero, border or reflected padding",
            "use torch's grid_sample conventions",
        )
    return F.grid_sample(x, coordinates, sampling_mode, modes[padding_mode], align_corners=bool(align_corners))
