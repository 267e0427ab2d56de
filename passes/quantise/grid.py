"""The grid that a range of floats is rounded to."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hycompile.quantisation.plan import bounds

# The smallest scale: what torch's own quantisation takes. Channels of smaller weights round to zero.
_SMALLEST = torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class Grid:
    """Whole numbers of so many bits; a symmetric grid has its zero at 0 and leaves the lowest number out."""

    bits: int
    symmetric: bool

    @property
    def low(self) -> int:
        return bounds(self.bits, symmetric=self.symmetric)[0]

    @property
    def high(self) -> int:
        return bounds(self.bits, symmetric=self.symmetric)[1]

    def parameters(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Scales (float32) and zero points (int64) of ranges, element by element.

        Every range is extended to hold 0. Without that the zero point of an all-positive range, ``low_grid - low /
        scale``, lies below the grid, is clamped, and the whole range is shifted.
        """
        low, high = low.double().clamp(max=0), high.double().clamp(min=0)
        scale = torch.maximum(-low, high) / self.high if self.symmetric else (high - low) / (self.high - self.low)
        scale = scale.clamp(min=_SMALLEST).float()
        if self.symmetric:
            return scale, torch.zeros_like(scale, dtype=torch.int64)
        zero_point = (self.low - low / scale.double()).round().clamp(self.low, self.high)
        return scale, zero_point.long()

    def quantise(self, values: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
        """The whole numbers of values; scales and zero points broadcast. As the graph's own nodes compute it."""
        inverse = (1.0 / scale.double()).to(values.dtype)
        return (values * inverse).round_().add_(zero_point).clamp_(self.low, self.high)

    def round(self, values: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
        """The values on the grid nearest to ``values``."""
        return self.quantise(values, scale, zero_point).sub_(zero_point).mul_(scale)
