"""Where the values of one tensor lie, and the grid over that."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from hycompile.passes.quantise.grid import Grid


@dataclass(frozen=True)
class Range:
    """One range for a tensor, one for each index along an axis, or one for each group of values behind such an index.

    Args:
        low: the lowest value kept, ``[1]``, ``[channels]`` or ``[channels * groups]``.
        high: the highest.
        grid: what the range is divided into.
        by: who chose it: an observer, or the search that changed it.
        axis: of the channels; None for one range.
        group: how many values of a channel have a range; None for all.
    """

    low: Tensor
    high: Tensor
    grid: Grid
    by: str
    axis: int | None = None
    group: int | None = None

    def times(self, share: float | Tensor, by: str) -> Range:
        """As wide as a share of it, or each channel by a share of its own, which its groups have in common."""
        if isinstance(share, Tensor):
            share = share.repeat_interleave(len(self.low) // len(share))
        return replace(self, low=self.low * share, high=self.high * share, by=by)

    def parameters(self) -> tuple[Tensor, Tensor]:
        """Scales and zero points, as many as ranges; the scales of groups are bfloat16 numbers.

        As runtimes store them: XNNPACK has no other, and the simulation must not be finer than an artifact.
        """
        scale, zero_point = self.grid.parameters(self.low, self.high)
        return (scale if self.group is None else scale.bfloat16().float()), zero_point

    def round(self, tensor: Tensor) -> Tensor:
        """A tensor on its grid, of its own type."""
        scale, zero_point = (along(numbers, tensor, self.axis, self.group) for numbers in self.parameters())
        return self.grid.round(tensor, scale, zero_point).to(tensor.dtype)


def rows_of(tensor: Tensor, axis: int | None, group: int | None = None) -> Tensor:
    """A tensor as ``[channels, values]`` or ``[channels * groups, values]``; one row without an axis."""
    if group is not None:
        return tensor.reshape(-1, group)
    return tensor.reshape(1, -1) if axis is None else tensor.movedim(axis, 0).flatten(1)


def along(numbers: Tensor, tensor: Tensor, axis: int | None, group: int | None = None) -> Tensor:
    """Numbers of a tensor's grid, shaped so that each meets the channel or the group it is for."""
    if axis is None:
        return numbers
    if group is not None:
        return numbers.reshape(len(tensor), -1).repeat_interleave(group, 1)
    return numbers.reshape([-1 if at == axis else 1 for at in range(tensor.ndim)])
