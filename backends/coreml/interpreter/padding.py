"""The paddings of convolution and pooling: ``valid``, ``custom``, ``same`` and ``same_lower``."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def amounts(
    pad_type: str, size: Sequence[int], kernel: Sequence[int], strides: Sequence[int], custom: Sequence[int]
) -> list[tuple[int, int]]:
    """Elements (before, after) each spatial dimension; ``kernel`` is the dilated extent.

    ``same`` gives ceil(size / stride) outputs and puts an odd element after, ``same_lower`` before.
    """
    if pad_type == "valid":
        return [(0, 0) for _ in size]
    if pad_type == "custom":
        return [(custom[2 * d], custom[2 * d + 1]) for d in range(len(size))]
    totals = [max(0, -(-n // s) * s - n + k - s) for n, k, s in zip(size, kernel, strides, strict=True)]
    if pad_type == "same_lower":
        return [(total - total // 2, total // 2) for total in totals]
    return [(total // 2, total - total // 2) for total in totals]


def apply(x: Tensor, pads: Sequence[tuple[int, int]], value: float = 0.0) -> Tensor:
    """``x`` with its last ``len(pads)`` dimensions extended by ``value``."""
    flat = [amount for pair in reversed(pads) for amount in pair]
    return F.pad(x, flat, value=value) if any(flat) else x


def extent(size: Sequence[int], dilations: Sequence[int]) -> list[int]:
    """Input elements a dilated kernel spans."""
    return [(k - 1) * d + 1 for k, d in zip(size, dilations, strict=True)]
