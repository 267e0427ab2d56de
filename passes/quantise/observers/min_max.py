"""The whole range that was seen."""

from __future__ import annotations

import torch
from torch import Tensor

from hycompile.passes.quantise.grid import Grid
from hycompile.passes.quantise.observers.observer import Observer


class MinMax(Observer):
    """From the least to the greatest value: nothing is clipped, and one outlier makes every step coarse.

    Source: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
    Inference".
    """

    def __init__(self, grid: Grid) -> None:
        super().__init__(grid)
        self._low: Tensor | None = None
        self._high: Tensor | None = None

    def see(self, rows: Tensor) -> None:
        low, high = rows.amin(1), rows.amax(1)
        self._low = low if self._low is None else torch.minimum(self._low, low)
        self._high = high if self._high is None else torch.maximum(self._high, high)

    def ranges(self) -> tuple[Tensor, Tensor]:
        assert self._low is not None
        assert self._high is not None
        return self._low, self._high
