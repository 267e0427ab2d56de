"""Values kept for observers that look at a distribution."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from hycompile.passes.quantise.grid import Grid
from hycompile.passes.quantise.observers.observer import Observer

# Of each batch, evenly spaced; and in all: beyond, every second value kept so far goes.
_PER_BATCH, _IN_ALL = 1 << 15, 1 << 18


class Sampled(Observer):
    """Keeps a sample of each row, evenly spaced."""

    def __init__(self, grid: Grid) -> None:
        super().__init__(grid)
        self._samples: list[Tensor] = []
        self._stride = 1

    def see(self, rows: Tensor) -> None:
        stride = max(self._stride, -(-rows.shape[1] // _PER_BATCH))
        self._samples.append(rows[:, ::stride].clone())
        while sum(sample.shape[1] for sample in self._samples) > _IN_ALL:
            self._samples = [sample[:, ::2].clone() for sample in self._samples]
            self._stride *= 2

    def ranges(self) -> tuple[Tensor, Tensor]:
        return self.choose(torch.cat(self._samples, 1))

    @abstractmethod
    def choose(self, sample: Tensor) -> tuple[Tensor, Tensor]:
        """Ranges of the rows of a sample, ``[rows, values]``."""
