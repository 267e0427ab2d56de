"""A constant factor of a tensor: one number, or one number for each index of an axis."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hycompile.passes.absorb.paths import Axis
from hycompile.passes.affine import Affine


@dataclass(frozen=True)
class Factor:
    """``scale`` is float64, ``[channels]`` along ``axis``; one that is the same everywhere has one value, no axis."""

    axis: Axis
    scale: Tensor

    @classmethod
    def of(cls, axis: Axis, scale: Tensor) -> Factor:
        """The factor, without its axis if it is the same everywhere."""
        return cls(None, scale[:1]) if bool((scale == scale[0]).all()) else cls(axis, scale)

    @property
    def affine(self) -> Affine:
        return Affine(self.scale, torch.zeros_like(self.scale))

    def at(self, axis: Axis) -> Factor:
        """The same factor with its channels on another axis."""
        return self if self.axis is None else Factor(axis, self.scale)

    def inverse(self) -> Factor:
        """What undoes it; infinite where it is zero."""
        return Factor(self.axis, 1 / self.scale)

    def piece(self, start: int, end: int) -> Factor:
        """The factor of ``channels start .. end - 1``."""
        return self if self.axis is None else Factor.of(self.axis, self.scale[start:end])

    def around(self, axis: int, start: int, end: int, size: int) -> Factor:
        """The factor of a tensor that has this one in ``start .. end - 1`` of an axis of that size, and 1 elsewhere."""
        whole = torch.ones(size, dtype=torch.float64)
        whole[start:end] = self.scale
        return Factor.of(axis, whole)

    def equals(self, other: Factor) -> bool:
        return self.axis == other.axis and torch.equal(self.scale, other.scale)
