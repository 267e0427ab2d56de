"""Weights stored compressed: quantised, palettised, sparse, and their combinations (iOS16 and iOS18 forms)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hycompile.backends.coreml.interpreter.registry import channelwise, ints, operator


@operator("constexpr_cast")
def constexpr_cast(source_val: Tensor, output_dtype: str) -> Tensor:
    """Stored in 16 bits, used in 32."""
    return source_val.float()


@operator("constexpr_affine_dequantize")
def constexpr_affine_dequantize(quantized_data: Tensor, zero_point: Tensor, scale: Tensor, axis: Tensor) -> Tensor:
    """scale (q - zero_point), both per tensor or per element of ``axis``."""
    dim = int(axis)
    centred = quantized_data.float() - channelwise(zero_point.float(), quantized_data, dim)
    return channelwise(scale, quantized_data, dim) * centred


@operator("constexpr_blockwise_shift_scale")
def constexpr_blockwise_shift_scale(data: Tensor, scale: Tensor, offset: Tensor | None = None) -> Tensor:
    """scale (q - offset), one scale per block of data.shape[i] / scale.shape[i] elements in each dimension."""
    centred = data.float() if offset is None else data.float() - _spread(offset.float(), data.shape)
    return _spread(scale, data.shape) * centred


@operator("constexpr_lut_to_dense", moves=True)
def constexpr_lut_to_dense(
    indices: Tensor, lut: Tensor, shape: Tensor | None = None, vector_axis: Tensor | None = None
) -> Tensor:
    """Table entries by index. iOS16: one table [P], packed indices and ``shape``; iOS18: a table [*blocks, P, V]."""
    if shape is not None:
        sizes = ints(shape)
        return lut[_unpack(indices, int(math.log2(lut.numel())), math.prod(sizes))].reshape(sizes)
    *blocks, palettes, width = lut.shape
    block = torch.arange(math.prod(blocks)).reshape(blocks)
    rows = _spread(block, indices.shape) * palettes + indices.long()
    entries = lut.reshape(-1, width)[rows]
    axis = -1 if vector_axis is None else int(vector_axis) % indices.dim()
    if vector_axis is None:
        return entries.squeeze(-1)
    return entries.movedim(-1, axis + 1).flatten(axis, axis + 1)


@operator("constexpr_sparse_to_dense", moves=True)
def constexpr_sparse_to_dense(nonzero_data: Tensor, mask: Tensor, shape: Tensor | None = None) -> Tensor:
    """Stored values where the mask is set, zero elsewhere. iOS16 packs the mask in bytes and adds ``shape``."""
    if shape is not None:
        sizes = ints(shape)
        mask = _unpack(mask, 1, math.prod(sizes)).reshape(sizes)
    return _scatter(nonzero_data, mask)


@operator("constexpr_lut_to_sparse", moves=True)
def constexpr_lut_to_sparse(
    indices_mask: Tensor, indices_nonzero_data: Tensor, lut: Tensor, vector_axis: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Mask and table entries of the stored values, in the order the dense tensor has them."""
    dense = constexpr_lut_to_dense(_scatter(indices_nonzero_data, indices_mask), lut, vector_axis=vector_axis)
    mask = indices_mask
    if vector_axis is not None:
        mask = mask.repeat_interleave(lut.shape[-1], int(vector_axis))
    return mask, dense[mask != 0]


@operator("constexpr_sparse_blockwise_shift_scale")
def constexpr_sparse_blockwise_shift_scale(
    data_mask: Tensor, nonzero_data: Tensor, scale: Tensor, offset: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Mask and dequantised stored values."""
    dense = constexpr_blockwise_shift_scale(_scatter(nonzero_data, data_mask), scale, offset)
    return data_mask, dense[data_mask != 0]


@operator("quantize")
def quantize(
    input: Tensor, scale: Tensor, output_dtype: str, zero_point: Tensor | None = None, axis: Tensor | None = None
) -> Tensor:
    """clip(round(x / scale) + zero_point) to the range of ``output_dtype``; halves round to even."""
    dim = 0 if axis is None else int(axis)
    low, high = (-128, 127) if output_dtype == "int8" else (0, 255)
    steps = torch.round(input / channelwise(scale, input, dim))
    steps = steps if zero_point is None else steps + channelwise(zero_point.float(), input, dim)
    return steps.clamp(low, high).to(torch.int8 if output_dtype == "int8" else torch.uint8)


@operator("dequantize")
def dequantize(input: Tensor, scale: Tensor, zero_point: Tensor | None = None, axis: Tensor | None = None) -> Tensor:
    """scale (q - zero_point)."""
    dim = 0 if axis is None else int(axis)
    centred = input.float() if zero_point is None else input.float() - channelwise(zero_point.float(), input, dim)
    return channelwise(scale, input, dim) * centred


def _unpack(packed: Tensor, bits: int, count: int) -> Tensor:
    """``count`` unsigned integers of ``bits`` bits, least significant bit first, from a stream of bytes."""
    stream = (packed.long().reshape(-1, 1) >> torch.arange(8)) & 1
    return (stream.reshape(-1)[: count * bits].reshape(count, bits) << torch.arange(bits)).sum(1)


def _spread(values: Tensor, shape: Sequence[int]) -> Tensor:
    """Each value repeated over its block so that the result has ``shape``."""
    for axis, size in enumerate(shape):
        values = values.repeat_interleave(size // values.shape[axis], axis)
    return values


def _scatter(stored: Tensor, mask: Tensor) -> Tensor:
    dense = torch.zeros(mask.shape, dtype=stored.dtype)
    dense[mask != 0] = stored
    return dense
