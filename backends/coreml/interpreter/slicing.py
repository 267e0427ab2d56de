"""Operators that take or replace a part of a tensor: slices, windows, diagonal bands."""

from __future__ import annotations

import torch
from torch import Tensor

from hycompile.backends.coreml.interpreter.registry import bools, ints, operator


@operator("sliding_windows", moves=True)
def sliding_windows(x: Tensor, axis: Tensor, size: Tensor, stride: Tensor) -> Tensor:
    """Every window of ``size`` elements along ``axis``; the window becomes the dimension after it."""
    dim = int(axis) % x.dim()
    return x.unfold(dim, int(size), int(stride)).movedim(-1, dim + 1)


@operator("slice_by_size", moves=True)
def slice_by_size(x: Tensor, begin: Tensor, size: Tensor) -> Tensor:
    """``size[i]`` elements from ``begin[i]`` of each dimension; -1 takes the rest."""
    for axis, (start, count) in enumerate(zip(ints(begin), ints(size), strict=True)):
        start %= x.shape[axis]
        x = x.narrow(axis, start, x.shape[axis] - start if count == -1 else count)
    return x


@operator("band_part", moves=True)
def band_part(x: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Zero outside ``lower`` diagonals below and ``upper`` above the main one; a negative count keeps all."""
    below, above = int(lower), int(upper)
    x = x if above < 0 else torch.tril(x, above)
    return x if below < 0 else torch.triu(x, -below)


def selection(
    x: Tensor,
    begin: Tensor,
    end: Tensor,
    stride: Tensor | None,
    begin_mask: Tensor | None,
    end_mask: Tensor | None,
    squeeze_mask: Tensor | None,
) -> tuple[list[Tensor], list[int]]:
    """Indices along each dimension of a strided slice, and the dimensions it drops.

    Python's slicing rules, negative strides included (which torch's own indexing lacks).
    """
    rank = x.dim()
    steps = [1] * rank if stride is None else ints(stride)
    free_begin, free_end, single = bools(begin_mask, rank), bools(end_mask, rank), bools(squeeze_mask, rank)
    picks: list[Tensor] = []
    for axis, (first, last, step) in enumerate(zip(ints(begin), ints(end), steps, strict=True)):
        size = x.shape[axis]
        if single[axis]:
            picks.append(torch.tensor([0 if free_begin[axis] else first % size]))
            continue
        chosen = slice(None if free_begin[axis] else first, None if free_end[axis] else last, step)
        picks.append(torch.arange(size)[0:0] if size == 0 else torch.tensor(range(size)[chosen], dtype=torch.long))
    return picks, [axis for axis in range(rank) if single[axis]]


@operator("slice_by_index", moves=True)
def slice_by_index(
    x: Tensor,
    begin: Tensor,
    end: Tensor,
    stride: Tensor | None = None,
    begin_mask: Tensor | None = None,
    end_mask: Tensor | None = None,
    squeeze_mask: Tensor | None = None,
) -> Tensor:
    """x[begin:end:stride] in every dimension; masks free an end or drop the dimension."""
    picks, dropped = selection(x, begin, end, stride, begin_mask, end_mask, squeeze_mask)
    for axis, pick in enumerate(picks):
        if pick.numel() != x.shape[axis] or not torch.equal(pick, torch.arange(x.shape[axis])):
            x = x.index_select(axis, pick)
    return x.squeeze(tuple(dropped)) if dropped else x


@operator("slice_update", moves=True)
def slice_update(
    x: Tensor,
    update: Tensor,
    begin: Tensor,
    end: Tensor,
    stride: Tensor | None = None,
    begin_mask: Tensor | None = None,
    end_mask: Tensor | None = None,
    squeeze_mask: Tensor | None = None,
) -> Tensor:
    """A copy of x whose slice (as in slice_by_index) holds ``update``."""
    picks, dropped = selection(x, begin, end, stride, begin_mask, end_mask, squeeze_mask)
    for axis in dropped:
        update = update.unsqueeze(axis)
    grid = torch.meshgrid(*picks, indexing="ij")
    return x.index_put(grid, update.to(x.dtype))
