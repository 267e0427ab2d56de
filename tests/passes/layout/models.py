"""Small modules that go between image and token form, as hybrids do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Function(nn.Module):
    """A forward function over a few layers of eight channels."""

    def __init__(self, forward: Callable[[Function, Tensor], Tensor | tuple[Tensor, ...]]) -> None:
        super().__init__()
        self.call = forward
        self.first, self.second, self.grouped = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1, groups=2)
        self.padded = nn.Conv2d(8, 8, 3, padding=1)
        self.up, self.down, self.norm = nn.Linear(8, 16), nn.Linear(16, 8), nn.LayerNorm(8)
        self.scale, self.table = nn.Parameter(torch.randn(8)), nn.Parameter(torch.randn(4, 8))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.call(self, x)


def tokens(x: Tensor) -> Tensor:
    """An image as tokens."""
    return x.flatten(2).transpose(1, 2)


def image(x: Tensor) -> Tensor:
    """Tokens as an image of height four."""
    return x.transpose(1, 2).reshape(x.shape[0], x.shape[2], 4, -1)


def windows(x: Tensor) -> Tensor:
    """``[batch, height, width, channels]`` as windows of two by two."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, channels)


def unwindowed(x: Tensor, height: int = 4, width: int = 4) -> Tensor:
    """The way back from :func:`windows`."""
    x = x.reshape(-1, height // 2, width // 2, 2, 2, x.shape[-1])
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, height, width, x.shape[-1])


def projection(m: Function, x: Tensor) -> Tensor:
    """A linear over tokens, on the way from one convolution to the next."""
    return m.padded(image(m.down(m.up(tokens(m.padded(x))))))


def feed_forward(m: Function, x: Tensor) -> Tensor:
    """EdgeNeXt's and ConvNeXt's, without its norm: a residual branch over channels that lie last."""
    x = m.padded(x)
    y = m.down(F.gelu(m.up(x.permute(0, 2, 3, 1)))) * m.scale
    return m.padded(x + y.permute(0, 3, 1, 2))


def between_windows(m: Function, x: Tensor) -> Tensor:
    """Swin's and MaxViT's: norm and feed-forward between one partition into windows and the next."""
    x = unwindowed(m.norm(windows(x)))
    x = x + m.down(F.gelu(m.up(m.norm(x))))
    return m.norm(windows(x)) + m.table


def pointwise_over_tokens(m: Function, x: Tensor) -> Tensor:
    """1 x 1 convolutions between layer norms, which keep tokens."""
    return m.norm(m.second(m.first(m.norm(x).permute(0, 3, 1, 2)).relu()).permute(0, 2, 3, 1))


def along_axes(m: Function, x: Tensor) -> Tensor:
    """Softmax, slice and concatenation over channels."""
    x = m.padded(x).permute(0, 2, 3, 1).softmax(-1)
    x = torch.cat([x[..., :3], x[..., 4:], x[..., 3:4]], 3)
    return m.padded(x.permute(0, 3, 1, 2))


def gated(m: Function, x: Tensor) -> Tensor:
    """A gate per channel, computed at run time, that broadcasts over positions."""
    x = m.padded(x)
    gate = m.scale * x.mean((2, 3), keepdim=True).permute(0, 2, 3, 1)
    return m.padded((x.permute(0, 2, 3, 1).relu() * gate).permute(0, 3, 1, 2))


def pooled(m: Function, x: Tensor) -> Tensor:
    """Next-ViT's keys and values: pooled as a row of positions, projected as tokens, and needed by head."""
    x = F.avg_pool1d(x.flatten(2), 2, 2).transpose(1, 2)
    keys, values = (projected.reshape(2, -1, 2, 8).transpose(1, 2) for projected in (m.up(x), m.up(x).relu()))
    return keys.softmax(2) * values.exp()


def used_in_both(m: Function, x: Tensor) -> tuple[Tensor, ...]:
    """A value that an image operator and a token operator both use."""
    x = m.padded(x)
    y = tokens(x).relu()
    return m.padded(image(y * 2)), m.norm(y)


def attended(m: Function, x: Tensor) -> Tensor:
    """Two heads of attention over the positions of an image, projected by convolutions."""
    return _mixed(m, m.padded(x))


def masked(m: Function, x: Tensor) -> Tensor:
    """The same with a constant added to the logits."""
    return _mixed(m, m.padded(x), attn_mask=m.up.bias.reshape(1, 16))


def causal(m: Function, x: Tensor) -> Tensor:
    """Every position sees those before it."""
    return _mixed(m, m.padded(x), is_causal=True)


def hidden_keys(m: Function, x: Tensor) -> Tensor:
    """A mask that may hide every key of a query."""
    return _mixed(m, m.padded(x), attn_mask=x[:, :1, :1, :1] > 0)


def _mixed(m: Function, x: Tensor, **options: Any) -> Tensor:
    batch, channels, _, _ = x.shape
    q, k, v = (
        tokens(layer(x)).reshape(batch, -1, 2, channels // 2).transpose(1, 2) for layer in (m.first, m.second, m.padded)
    )
    mixed = F.scaled_dot_product_attention(q, k, v, **options)
    return m.padded(image(mixed.transpose(1, 2).reshape(batch, -1, channels)))


def normed(m: Function, x: Tensor) -> Tensor:
    """A layer norm over the channels of an image."""
    return m.padded(image(m.norm(tokens(m.padded(x)))))


def transformer(m: Function, x: Tensor) -> Tensor:
    """MobileViT's: a block of attention and feed-forward over windows, between two convolutions."""
    x = windows(m.padded(x).permute(0, 2, 3, 1))
    y = m.norm(x)
    q, k, v = (m.down(bend(m.up(y))).unflatten(2, (2, 4)).transpose(1, 2) for bend in (F.relu, F.gelu, F.silu))
    x = x + m.down(m.up(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)))
    x = x + m.down(F.gelu(m.up(m.norm(x))))
    return m.padded(unwindowed(x).permute(0, 3, 1, 2))
