"""Observers: what chooses the range of a value from what is seen of it. One file each; ``OBSERVERS`` names them."""

from __future__ import annotations

from hycompile.passes.quantise.observers.least_squares import LeastSquares
from hycompile.passes.quantise.observers.min_max import MinMax
from hycompile.passes.quantise.observers.observer import Observer
from hycompile.passes.quantise.observers.percentile import Percentile

__all__ = ["OBSERVERS", "Observer"]

OBSERVERS: dict[str, type[Observer]] = {"minmax": MinMax, "percentile": Percentile, "mse": LeastSquares}
