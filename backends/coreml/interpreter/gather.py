"""Gather and scatter. Negative indices count from the end (iOS15, iOS16); from iOS17 Core ML leaves them undefined."""

from __future__ import annotations

import torch
from torch import Tensor

from hycompile.backends.coreml.interpreter.registry import operator
from hycompile.errors import ArtifactError


def _wrapped(indices: Tensor, size: int) -> Tensor:
    """Indices as int64 in [0, size); outside [-size, size) is an error here, undefined on a device."""
    indices = indices.long()
    if indices.numel() and (int(indices.min()) < -size or int(indices.max()) >= size):
        extreme = int(indices.min()) if int(indices.min()) < -size else int(indices.max())
        raise ArtifactError(
            f"index {extreme}", f"out of range for {size} elements", "check the indices the model is given"
        )
    return torch.where(indices < 0, indices + size, indices)


@operator("gather", moves=True)
def gather(
    x: Tensor, indices: Tensor, axis: Tensor, batch_dims: Tensor | None = None, validate_indices: Tensor | None = None
) -> Tensor:
    """x[..., indices, ...] along ``axis``; the first ``batch_dims`` dimensions of x and indices go together."""
    dim, batch = int(axis) % x.dim(), 0 if batch_dims is None else int(batch_dims)
    where = _wrapped(indices, x.shape[dim])
    if batch == 0:
        return x.index_select(dim, where.reshape(-1)).reshape(*x.shape[:dim], *where.shape, *x.shape[dim + 1 :])
    rows = zip(x.flatten(0, batch - 1), where.flatten(0, batch - 1), strict=True)
    picked = [row.index_select(dim - batch, at.reshape(-1)) for row, at in rows]
    shape = (*x.shape[:dim], *where.shape[batch:], *x.shape[dim + 1 :])
    return torch.stack(picked).reshape(shape)


@operator("gather_along_axis", moves=True)
def gather_along_axis(x: Tensor, indices: Tensor, axis: Tensor, validate_indices: Tensor | None = None) -> Tensor:
    """result[..., i, ...] = x[..., indices[..., i, ...], ...]."""
    return torch.gather(x, int(axis), _wrapped(indices, x.shape[int(axis)]))


@operator("gather_nd", moves=True)
def gather_nd(
    x: Tensor, indices: Tensor, batch_dims: Tensor | None = None, validate_indices: Tensor | None = None
) -> Tensor:
    """x[indices[..., 0], indices[..., 1], ...], behind ``batch_dims`` shared leading dimensions."""
    batch = 0 if batch_dims is None else int(batch_dims)
    leading = [
        torch.arange(size).reshape([-1 if d == axis else 1 for d in range(indices.dim() - 1)])
        for axis, size in enumerate(x.shape[:batch])
    ]
    where = [_wrapped(part, x.shape[batch + i]) for i, part in enumerate(indices.unbind(-1))]
    return x[tuple(leading + where)]


def _combine(data: Tensor, where: tuple[Tensor, ...], updates: Tensor, mode: str) -> Tensor:
    """Scatter into a copy, one update after another where indices repeat."""
    if mode == "update":
        return data.index_put(where, updates)
    if mode in ("add", "sub"):
        return data.index_put(where, updates if mode == "add" else -updates, accumulate=True)
    flat_index = torch.zeros_like(where[0].expand(updates.shape))
    for size, part in zip(data.shape, where, strict=True):
        flat_index = flat_index * size + part
    flat = data.reshape(-1)
    source = 1 / updates if mode == "div" else updates
    reduce = {"mul": "prod", "div": "prod", "max": "amax", "min": "amin"}[mode]
    return flat.scatter_reduce(0, flat_index.reshape(-1), source.reshape(-1), reduce).reshape(data.shape)


def _grid(shape: torch.Size, axis: int, where: Tensor) -> tuple[Tensor, ...]:
    """Full coordinates of ``shape`` in which ``where`` replaces the coordinate along ``axis``."""
    parts = [
        torch.arange(size).reshape([-1 if d == i else 1 for d in range(len(shape))]) for i, size in enumerate(shape)
    ]
    parts[axis] = where
    return tuple(part.expand(shape) for part in parts)


@operator("scatter")
def scatter(
    data: Tensor, indices: Tensor, updates: Tensor, axis: Tensor, mode: str, validate_indices: Tensor | None = None
) -> Tensor:
    """data with ``updates`` merged in at ``indices`` [K] along ``axis``."""
    dim = int(axis) % data.dim()
    where = _wrapped(indices, data.shape[dim]).reshape([-1 if d == dim else 1 for d in range(data.dim())])
    return _combine(data, _grid(updates.shape, dim, where), updates, mode)


@operator("scatter_along_axis")
def scatter_along_axis(
    data: Tensor, indices: Tensor, updates: Tensor, axis: Tensor, mode: str, validate_indices: Tensor | None = None
) -> Tensor:
    """data[..., indices[..., i, ...], ...] merged with updates[..., i, ...]."""
    dim = int(axis) % data.dim()
    return _combine(data, _grid(updates.shape, dim, _wrapped(indices, data.shape[dim])), updates, mode)


@operator("scatter_nd")
def scatter_nd(
    data: Tensor, indices: Tensor, updates: Tensor, mode: str, validate_indices: Tensor | None = None
) -> Tensor:
    """data[indices[..., 0], indices[..., 1], ...] merged with updates."""
    depth = indices.shape[-1]
    where = [_wrapped(part, data.shape[i]) for i, part in enumerate(indices.unbind(-1))]
    inner = data.dim() - depth
    full = [part.reshape(*part.shape, *[1] * inner) for part in where]
    full += [
        torch.arange(size).reshape([-1 if d == i else 1 for d in range(inner)])
        for i, size in enumerate(data.shape[depth:])
    ]
    return _combine(data, tuple(part.expand(updates.shape) for part in full), updates, mode)
