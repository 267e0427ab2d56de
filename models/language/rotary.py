"""Rotary positions (Su et al. 2021, arXiv 2104.09864), halves rotated against each other."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Rotary(nn.Module):
    """Rotates heads by their positions.

    Args:
        head_width: even.
        base: of the wavelengths.
    """

    def __init__(self, head_width: int, base: float = 10000.0) -> None:
        super().__init__()
        frequency = base ** -(torch.arange(0, head_width, 2, dtype=torch.float32) / head_width)
        self.frequency: Tensor
        self.register_buffer("frequency", frequency)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """``x`` [batch, heads, tokens, head width], positions int64 [tokens]."""
        angles = positions.to(self.frequency.dtype)[:, None] * self.frequency
        # Angles grow with position: only their sines may be in the precision of x.
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        first, second = x.chunk(2, -1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)
