"""Operators that make tensors: fill, ranges, one-hot, positions of non-zeros."""

from __future__ import annotations

import torch
from torch import Tensor

from hycompile.backends.coreml.interpreter.registry import ints, operator


@operator("fill", moves=True)
def fill(shape: Tensor, value: Tensor) -> Tensor:
    """``value`` in every element of ``shape``."""
    return torch.full(ints(shape), value.item(), dtype=value.dtype)


@operator("fill_like", moves=True)
def fill_like(ref_tensor: Tensor, value: Tensor) -> Tensor:
    """``value`` in every element of the reference's shape."""
    return torch.full(ref_tensor.shape, value.item(), dtype=value.dtype)


@operator("range_1d", moves=True)
def range_1d(start: Tensor, end: Tensor, step: Tensor) -> Tensor:
    """start, start + step, ... below end."""
    return torch.arange(start.item(), end.item(), step.item(), dtype=start.dtype)


@operator("one_hot", moves=True)
def one_hot(
    indices: Tensor,
    one_hot_vector_size: Tensor,
    axis: Tensor,
    on_value: Tensor,
    off_value: Tensor,
    validate_indices: Tensor | None = None,
) -> Tensor:
    """``on_value`` where the position along the new dimension ``axis`` equals the index, ``off_value`` elsewhere."""
    dim = int(axis) % (indices.dim() + 1)
    positions = torch.arange(int(one_hot_vector_size)).reshape(
        [-1 if d == dim else 1 for d in range(indices.dim() + 1)]
    )
    return torch.where(indices.unsqueeze(dim) == positions, on_value, off_value)


@operator("non_zero", moves=True)
def non_zero(x: Tensor) -> Tensor:
    """Coordinates [N, rank] of the elements that are not zero."""
    return torch.nonzero(x)
