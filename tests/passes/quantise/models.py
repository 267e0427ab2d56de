"""Small models with every place where values are rounded."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hycompile.program import Program
from tests.support import captured


class Hybrid(nn.Module):
    """Convolutions with and without an activation the runtime fuses, moves to tokens, attention, and a linear."""

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, channels, 3, padding=1)
        self.mix = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.point = nn.Conv2d(channels, channels, 1)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.head = nn.Linear(channels, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.point(F.silu(self.mix(F.relu(self.stem(x)))))
        tokens = x.flatten(2).transpose(1, 2)
        query, key, value = self.qkv(tokens).chunk(3, -1)
        return self.head(F.scaled_dot_product_attention(query, key, value).mean(1))


@cache
def hybrid(batch: int = 2) -> Program:
    """Captured once: passes rewrite copies."""
    torch.manual_seed(0)
    return captured(Hybrid(), torch.randn(batch, 2, 6, 6))


def samples(count: int = 4, batch: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(batch, 2, 6, 6, generator=generator) for _ in range(count)]
