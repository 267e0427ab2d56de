"""Attention as authors of hybrids write it, small."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TOKENS, DIM, HEADS = 5, 8, 2


class Attention(nn.Module):
    """One projection of queries, keys and values, ``attend`` on them, and an output projection."""

    def __init__(self, attend: Callable[[Attention, Tensor], Tensor | tuple[Tensor, ...]], channels: int = DIM) -> None:
        super().__init__()
        self.attend = attend
        self.q, self.k, self.v = (nn.Linear(channels, DIM) for _ in range(3))
        self.qkv, self.out = nn.Linear(channels, 3 * DIM), nn.Linear(DIM, channels)
        self.conv_qkv, self.conv_out = nn.Conv2d(channels, 3 * DIM, 1), nn.Conv2d(DIM, channels, 1)
        self.grouped, self.wide = (nn.Parameter(torch.randn(shape)) for shape in ((DIM, channels // 2, 1), (8, 8, 3)))
        self.norm = nn.LayerNorm(DIM // HEADS)
        self.mix, self.mix_after = nn.Conv2d(HEADS, HEADS, 1), nn.Conv2d(HEADS, HEADS, 1)
        self.bias = nn.Parameter(torch.randn(HEADS, TOKENS, TOKENS))
        self.temperature = nn.Parameter(0.5 + torch.rand(HEADS, 1, 1))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.attend(self, x)


def heads(x: Tensor) -> Tensor:
    """``[B, N, C]`` as ``[B, heads, N, C / heads]``."""
    return x.reshape(x.shape[0], x.shape[1], HEADS, -1).transpose(1, 2)


def joined(x: Tensor) -> Tensor:
    """Back again."""
    return x.transpose(1, 2).reshape(x.shape[0], x.shape[2], -1)


def three(m: Attention, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return heads(m.q(x)), heads(m.k(x)), heads(m.v(x))


def timm(m: Attention, x: Tensor) -> Tensor:
    """timm's vision transformer: one projection, unbind, fused attention."""
    q, k, v = m.qkv(x).reshape(x.shape[0], x.shape[1], 3, HEADS, -1).permute(2, 0, 3, 1, 4).unbind(0)
    return m.out(joined(F.scaled_dot_product_attention(q, k, v)))


def levit(m: Attention, x: Tensor) -> Tensor:
    """LeViT: parts of every head next to each other, keys channels-first, scale, bias, activation behind."""
    q, k, v = m.qkv(x).view(x.shape[0], x.shape[1], HEADS, -1).split([4, 4, 4], dim=3)
    logits = q.permute(0, 2, 1, 3) @ k.permute(0, 2, 3, 1) * 0.5 + m.bias
    return m.out(F.hardswish(joined(logits.softmax(-1) @ v.permute(0, 2, 1, 3))))


def efficientvit_m(m: Attention, x: Tensor) -> Tensor:
    """EfficientViT-M: convolution, scaled queries, channels first, values times the transposed softmax."""
    q, k, v = m.conv_qkv(x).flatten(2).split([DIM, DIM, DIM], dim=1)
    weights = ((q * 0.3).transpose(-2, -1) @ k + 0.1).softmax(-1)
    return m.conv_out((v @ weights.transpose(-2, -1)).unflatten(2, x.shape[2:]))


def over_rows(m: Attention, x: Tensor) -> Tensor:
    """Keys along rows: softmax over them, values times it."""
    q, k, v = m.conv_qkv(x).flatten(2).chunk(3, dim=1)
    return m.conv_out((v @ (k.transpose(-2, -1) @ q / 2).softmax(-2)).unflatten(2, x.shape[2:]))


def bias_before_scale(m: Attention, x: Tensor) -> Tensor:
    q, k, v = three(m, x)
    return m.out(joined(((q @ k.mT + m.bias) * 0.5 - 1.0).softmax(-1) @ v))


def einsum(m: Attention, x: Tensor) -> Tensor:
    q, k, v = three(m, x)
    weights = torch.einsum("bhle,bhse->bhls", q, k).mul(0.5).softmax(-1)
    return m.out(joined(torch.einsum("bhls,bhse->bhle", weights, v)))


def batched(m: Attention, x: Tensor) -> Tensor:
    return m.out(torch.bmm(torch.bmm(m.q(x), m.k(x).mT).softmax(-1), m.v(x)))


def runtime_bias(m: Attention, x: Tensor) -> Tensor:
    q, k, v = three(m, x)
    return m.out(joined((q @ k.mT + (q @ m.bias[:, :4, :].contiguous())).softmax(-1) @ v))


def over_channels(m: Attention, x: Tensor) -> Tensor:
    """XCA: attention over channels, a temperature for each head."""
    q, k, v = m.qkv(x).reshape(x.shape[0], x.shape[1], 3, HEADS, -1).permute(2, 0, 3, 4, 1).unbind(0)
    weights = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT * m.temperature).softmax(-1)
    return m.out((weights @ v).permute(0, 3, 1, 2).reshape(x.shape[0], x.shape[1], -1))


def query_norm(m: Attention, x: Tensor) -> Tensor:
    q, k, v = three(m, x)
    return m.out(joined(F.scaled_dot_product_attention(m.norm(q), k, v)))


def multi_query(m: Attention, x: Tensor) -> Tensor:
    k, v = heads(m.k(x))[:, :1], heads(m.v(x))[:, :1]
    return m.out(joined(F.scaled_dot_product_attention(heads(m.q(x)), k, v)))


def units(m: Attention, x: Tensor) -> Tensor:
    """Hiera: attention within units, five axes."""
    q, k, v = (heads(t).unflatten(2, (2, 2)).transpose(2, 3) for t in (m.q(x), m.k(x), m.v(x)))
    return m.out(joined(F.scaled_dot_product_attention(q, k, v).transpose(2, 3).flatten(2, 3)))


def talking_heads(m: Attention, x: Tensor) -> Tensor:
    q, k, v = three(m, x)
    weights = m.mix_after(m.mix(q @ k.mT * 0.5 + m.bias).softmax(-1))
    return m.out(joined(weights @ v))


def relu_linear(m: Attention, x: Tensor) -> Tensor:
    """EfficientViT-B: numerator and denominator in one product, by a column of ones."""
    q, k, v = three(m, x)
    both = q.relu() @ (k.relu().mT @ F.pad(v, (0, 1), value=1.0))
    return m.out(joined(both[..., :-1] / (both[..., -1:] + 1e-5)))


def linear(m: Attention, x: Tensor) -> Tensor:
    q, k, v = three(m, x)
    return m.out(joined((q.relu() @ k.relu().mT) @ v))


def separable(m: Attention, x: Tensor) -> Tensor:
    """MobileViTv2: one weight a position, one context for all."""
    q, k, v = m.conv_qkv(x).split([1, DIM, 2 * DIM - 1], dim=1)
    context = (k * q.softmax(-1)).sum(-1, keepdim=True)
    return m.conv_out(v[:, :DIM].relu() * context.expand_as(k))
