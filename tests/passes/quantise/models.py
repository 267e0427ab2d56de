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


class Between(nn.Module):
    """Every operator that is computed on whole numbers between layers, and norms whose sum stays in float."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mix = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.point, self.last = nn.Conv2d(8, 8, 1), nn.Conv2d(16, 8, 1)
        self.squeeze, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.one, self.two = nn.LayerNorm(8), nn.LayerNorm(8)
        self.up, self.down, self.proj, self.head = (
            nn.Linear(8, 16),
            nn.Linear(16, 8),
            nn.Linear(8, 8),
            nn.Linear(8, 5),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.stem(x))
        y = self.point(F.hardswish(self.mix(x))) + x
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(y, 1)))))
        y = y * gate
        z = F.relu(self.last(torch.cat((F.max_pool2d(y, 3, 1, 1), x), 1)) + y)
        tokens = z.permute(0, 2, 3, 1).reshape(z.shape[0], -1, 8)
        tokens = tokens + self.proj(self.one(tokens))
        tokens = tokens + self.down(F.gelu(self.up(self.two(tokens))))
        return self.head(tokens.mean(1))


@cache
def between() -> Program:
    torch.manual_seed(0)
    return captured(Between(), torch.randn(2, 3, 8, 8))


def images(count: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, 3, 8, 8, generator=generator) for _ in range(count)]
