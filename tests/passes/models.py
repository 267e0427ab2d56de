"""Small modules with a batch norm in every place where hybrids have one."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LinearThroughFlatten(nn.Module):
    """LeViT: the batch norm sees tokens flattened into the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear(x)
        return self.norm(x.flatten(0, 1)).reshape_as(x)


class LinearAfterPermute(nn.Module):
    """A batch norm over an image, then a linear over its channels as tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.linear = nn.BatchNorm2d(4), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x.relu())
        return self.linear(x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, 4))


class NextVitAttention(nn.Module):
    """Next-ViT: queries from the batch norm, keys and values from a second one behind average pooling."""

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.norm, self.pool, self.reduced = nn.BatchNorm2d(channels), nn.AvgPool1d(4, 4), nn.BatchNorm1d(channels)
        self.q, self.k, self.v = (nn.Linear(channels, channels) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(x.relu()).flatten(2).transpose(1, 2)
        pooled = self.reduced(self.pool(tokens.transpose(1, 2))).transpose(1, 2)
        attention = (self.q(tokens) @ self.k(pooled).transpose(1, 2)).softmax(-1)
        return attention @ self.v(pooled)


class PositionTable(nn.Module):
    """A relative-position bias gathered from a table, as EfficientFormer computes it on every call."""

    index: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(2, 5))
        self.register_buffer("index", torch.tensor([[0, 1], [3, 4]]))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table[:, self.index] * 2 + torch.arange(2, dtype=torch.float32)


class Raw(nn.Module):
    """Everything that the normal form does away with."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(2, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x)).relu_()
        x.add_(1.0)
        x = self.drop(x.clone().view(x.shape[0], 4, -1).contiguous())
        return x.detach().to(torch.float32).unflatten(2, (2, 2))


class ReluThen(nn.Module):
    """Something no rule folds into, then ``layers``."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.relu())


class ThereAndBack(nn.Module):
    """A reshape that the next one undoes; the value between is used too."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        flat = x.relu().flatten(1)
        return flat.reshape(x.shape), flat.sum(1)


class InSteps(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.relu().reshape(6, 4).reshape(-1, 2).reshape(3, 8)
