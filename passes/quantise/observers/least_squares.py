"""The range whose grid is nearest to the values."""

from __future__ import annotations

import torch
from torch import Tensor

from hycompile.passes.quantise.observers.sampled import Sampled

_SHARES = tuple(share / 100 for share in range(20, 101, 2))


class LeastSquares(Sampled):
    """The share of the whole range, from a fifth to all of it, that rounds a sample with the least squared error.

    Source: Choukroun et al. 2019, "Low-bit Quantization of Neural Networks for Efficient Inference".
    """

    def choose(self, sample: Tensor) -> tuple[Tensor, Tensor]:
        low, high = sample.amin(1), sample.amax(1)
        best = torch.full_like(low, float("inf"))
        share = torch.ones_like(low)
        for candidate in _SHARES:
            scale, zero_point = self.grid.parameters(low * candidate, high * candidate)
            rounded = self.grid.round(sample, scale[:, None], zero_point[:, None])
            error = (rounded - sample).square().mean(1)
            better = error <= best
            best, share = torch.where(better, error, best), torch.where(better, candidate, share)
        return low * share, high * share
