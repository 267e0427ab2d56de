"""Where a convolution reads, per spatial axis: its taps as offsets from the output position."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Geometry:
    """Output ``i`` reads input ``i * stride + first + n * step`` for ``n < taps``, and zeros outside of the input.

    ``first`` is minus the padding, ``step`` the dilation, ``taps`` the kernel size; one entry a spatial axis.
    """

    stride: tuple[int, ...]
    first: tuple[int, ...]
    step: tuple[int, ...]
    taps: tuple[int, ...]

    @classmethod
    def pointwise(cls, axes: int) -> Geometry:
        """Every position reads itself."""
        return cls((1,) * axes, (0,) * axes, (1,) * axes, (1,) * axes)

    @property
    def reads_itself(self) -> bool:
        """Whether there is one tap, the output's own position (times the stride)."""
        return all(taps == 1 for taps in self.taps) and not any(self.first)

    @property
    def padding(self) -> list[int]:
        return [-first for first in self.first]

    def arguments(self) -> tuple[list[int], list[int], list[int]]:
        """``stride, padding, dilation`` of the convolution operators."""
        return list(self.stride), self.padding, list(self.step)

    def joined(self, other: Geometry) -> Geometry:
        """The smallest geometry that has the taps of both; both have the same stride."""
        axes = [_joined(*axis) for axis in zip(self._axes(), other._axes(), strict=True)]
        first, step, taps = zip(*axes, strict=True)
        return Geometry(self.stride, first, step, taps)

    def after(self, stride: Sequence[int]) -> Geometry:
        """This geometry at every ``stride``-th of its outputs only."""
        faster = tuple(own * other for own, other in zip(self.stride, stride, strict=True))
        return Geometry(faster, self.first, self.step, self.taps)

    def output_size(self, sizes: Sequence[Any]) -> list[Any]:
        """Spatial sizes of the result, with the same padding at both ends; symbolic sizes stay symbolic."""
        return [
            (size - 2 * first - step * (taps - 1) - 1) // stride + 1
            for size, stride, (first, step, taps) in zip(sizes, self.stride, self._axes(), strict=True)
        ]

    def embedded(self, weight: Tensor, wider: Geometry) -> Tensor:
        """``[out, in, *taps]`` with zeros at the taps that only ``wider`` has: tap on tap, not corner on corner."""
        result = weight.new_zeros(*weight.shape[:2], *wider.taps)
        places: list[slice] = []
        for own, other in zip(self._axes(), wider._axes(), strict=True):
            start = (own[0] - other[0]) // other[1]
            stride = own[1] // other[1] if own[2] > 1 else 1
            places.append(slice(start, start + stride * (own[2] - 1) + 1, stride))
        result[(slice(None), slice(None), *places)] = weight
        return result

    def _axes(self) -> list[tuple[int, int, int]]:
        return list(zip(self.first, self.step, self.taps, strict=True))


def _joined(one: tuple[int, int, int], other: tuple[int, int, int]) -> tuple[int, int, int]:
    first = min(one[0], other[0])
    last = max(begin + step * (taps - 1) for begin, step, taps in (one, other))
    spread = [step for _, step, taps in (one, other) if taps > 1]
    step = math.gcd(one[0] - other[0], *spread) or 1
    return first, step, (last - first) // step + 1


def regrouped(weight: Tensor, groups: int, fewer: int) -> Tensor:
    """A weight of ``groups`` channel groups as one of ``fewer``, block-diagonal: ``[out, in / fewer, ...]``.

    Groups are contiguous runs of channels, and ``fewer`` divides ``groups``.
    """
    out, inn, *taps = weight.shape
    ratio = groups // fewer
    blocks = weight.reshape(fewer, ratio, out // groups, 1, inn, -1)
    eye = torch.eye(ratio, dtype=weight.dtype).reshape(1, ratio, 1, ratio, 1, 1)
    return (blocks * eye).reshape(out, inn * ratio, *taps)
