"""One small module per form that XNNPACK's delegate takes whole."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Attention over heads of given queries, keys and values, with a constant mask or none.

    Args:
        mask: added to the logits, or boolean; broadcasts to ``[batch, heads, n, m]``.
        scale: 1/sqrt(d) by default.
    """

    mask: Tensor | None

    def __init__(self, mask: Tensor | None = None, scale: float | None = None) -> None:
        super().__init__()
        self.register_buffer("mask", mask)
        self.scale = scale

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=self.mask, scale=self.scale)


class GivenMask(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)


class CausalAttention(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True)


class ChannelNorm(nn.Module):
    """ConvNeXt's norm: over the channels of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(6)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Product(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a @ b


class Mean(nn.Module):
    """A mean over the axes given."""

    def __init__(self, dims: tuple[int, ...], keepdim: bool) -> None:
        super().__init__()
        self.dims, self.keepdim = dims, keepdim

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(self.dims, self.keepdim)


class Sum(nn.Module):
    def __init__(self, dim: int, keepdim: bool) -> None:
        super().__init__()
        self.dim, self.keepdim = dim, keepdim

    def forward(self, x: Tensor) -> Tensor:
        return x.sum(self.dim, self.keepdim)


class ExpandedContext(nn.Module):
    """MobileViTv2 expands its context vectors to every token."""

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        return x.relu() * context.expand_as(x)


class ExpandedAlone(nn.Module):
    """The operand that is not expanded is the smaller one."""

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        return context * x[:, :, :1, :1].expand_as(x)


class Pieces(nn.Module):
    """Every way to take a tensor apart."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = x.reshape(2, 3, 4, 6).unbind(1)
        low, high = q.split([1, 3], 1)
        first, second = k.chunk(2, 2)
        return torch.cat([low.sum(1), high.sum(1), first.sum(1), second.sum(1), v.select(1, -1)], 1)


class WholeNumbers(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x + 1) / 2


class DoubledChannels(nn.Module):
    """FastViT's patch embedding: a depthwise convolution that doubles the channels, and its reader."""

    def __init__(self, bias: bool = True, groups: int = 1) -> None:
        super().__init__()
        self.spread = nn.Conv2d(6, 12, 3, 2, 1, groups=6, bias=bias)
        self.read = nn.Conv2d(12, 4, 1, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        return self.read(functional.gelu(self.spread(x)))


class DoubledAndReturned(DoubledChannels):
    def forward(self, x: Tensor) -> Tensor:
        return self.spread(x) + 1


class Normalised(nn.Module):
    """EdgeNeXt normalises queries and keys over their tokens, SwiftFormer over their channels."""

    def __init__(self, dim: int, order: float = 2.0) -> None:
        super().__init__()
        self.dim, self.order = dim, order

    def forward(self, x: Tensor) -> Tensor:
        return functional.normalize(x, self.order, self.dim)
