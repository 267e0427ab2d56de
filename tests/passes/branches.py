"""Small modules with parallel branches and linear operators in a row, as re-parameterised networks have them."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from operator import add
from typing import Any

import torch
from torch import Tensor, nn


class Function(nn.Module):
    """Layers by name, and what to compute with them."""

    def __init__(self, forward: Callable[[Function, Tensor], Tensor | tuple[Tensor, ...]], **layers: nn.Module) -> None:
        super().__init__()
        self.call = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def __getattr__(self, name: str) -> Any:
        return super().__getattr__(name)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.call(self, x)


class Sum(nn.Module):
    """The sum of what all branches make of the input."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return reduce(add, (branch(x) for branch in self.branches))


class MobileOne(nn.Module):
    """timm's MobileOneBlock in training form; the branch it does not have is the number 0."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, groups: int) -> None:
        super().__init__()
        self.identity = nn.BatchNorm2d(channels) if channels == out and stride == 1 else None
        self.scale = _conv_norm(channels, out, 1, stride, groups) if kernel > 1 else None
        self.convolutions = nn.ModuleList(_conv_norm(channels, out, kernel, stride, groups) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        out: Any = 0 if self.scale is None else self.scale(x)
        for convolution in self.convolutions:
            out = out + convolution(x)
        return (out + (0 if self.identity is None else self.identity(x))).relu()


class RepVit(nn.Module):
    """RepViT's token mixer: depthwise 3x3, depthwise 1x1 and the input, with a batch norm behind the sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = _conv_norm(channels, channels, 3, 1, channels)
        self.pointwise = nn.Conv2d(channels, channels, 1, groups=channels)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x) + self.pointwise(x) + x)


class RepMixer(nn.Module):
    """FastViT's token mixer without its layer scale."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.skip = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
        self.scale = _conv_norm(channels, channels, 1, 1, channels)
        self.conv = _conv_norm(channels, channels, 3, 1, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + (self.skip(x) + self.scale(x) + self.conv(x) - (self.norm(x) + 0))


class RepGhost(nn.Module):
    """RepGhost's cheap operation: a depthwise convolution beside a batch norm alone, instead of a concatenation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.fusion = _conv_norm(channels, channels, 3, 1, channels), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x.relu()
        return (self.conv(x) + self.fusion(x)).relu()


class FmVit(nn.Module):
    """FMViT's multi-group convolution: dense, grouped and depthwise branches of several kernels, and the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branches = Sum(
            _conv_norm(channels, channels, 3, 1, 1),
            _conv_norm(channels, channels, 3, 1, 2),
            _conv_norm(channels, channels, 1, 1, 4),
            _conv_norm(channels, channels, 3, 1, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branches(x)


class PoolingMixer(nn.Module):
    """PoolFormer's token mixer in its residual block, with a scalar layer scale."""

    def __init__(self, count_include_pad: bool) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(3, 1, 1, count_include_pad=count_include_pad)

    def forward(self, x: Tensor) -> Tensor:
        return torch.add(x, self.pool(x) - x, alpha=0.5)


def _conv_norm(channels: int, out: int, kernel: int, stride: int, groups: int) -> nn.Module:
    conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out))
