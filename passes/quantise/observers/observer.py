"""What an observer is."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from hycompile.passes.quantise.grid import Grid


class Observer(ABC):
    """Sees a value batch by batch, as rows that are given a range each: one row for a tensor, one per channel."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid

    @abstractmethod
    def see(self, rows: Tensor) -> None:
        """Take note of ``[rows, values]``; the number of rows is the same in every call."""

    @abstractmethod
    def ranges(self) -> tuple[Tensor, Tensor]:
        """Lowest and highest value kept, ``[rows]`` each; only after something was seen."""
