"""Toy decoders of which only the last token's logits are wanted."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hycompile.recurrence.operators import causal_conv, selective_scan

Pick = Callable[[Tensor, Tensor], Tensor]
PICKS: dict[str, Pick] = {
    "slice": lambda x, count: x[:, -1:],
    "select": lambda x, count: x[:, -1],
    "narrow": lambda x, count: x.narrow(1, x.shape[1] - 1, 1),
    "index_select": lambda x, count: x.index_select(1, count - 1),
    "index": lambda x, count: x[:, count - 1],
}
"""By what of a module's own calls the last token is selected; ``count`` [1] says how many tokens count."""


def heads(x: Tensor, number: int) -> Tensor:
    """[batch, tokens, width] to [batch, heads, tokens, width of a head]."""
    return x.reshape(x.shape[0], x.shape[1], number, -1).transpose(1, 2)


class RMSNorm(nn.Module):
    """As transformers write it, in pieces."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(0.5, 1.5, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class Attention(nn.Module):
    """Causal attention with rotary positions; keys and values come from ``source``, or are given."""

    def __init__(self, width: int, number: int, mask: str) -> None:
        super().__init__()
        self.number, self.mask = number, mask
        self.query, self.out = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, tokens = rotate(heads(self.query(x), self.number)), x.shape[1]
        seen = torch.ones(tokens, tokens, dtype=torch.bool).tril()
        if self.mask == "causal":
            mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        elif self.mask == "bool":
            mixed = F.scaled_dot_product_attention(query, key, value, seen)
        else:
            scores = (query @ key.transpose(-1, -2)) / query.shape[-1] ** 0.5
            mixed = scores.masked_fill(~seen, float("-inf")).softmax(-1) @ value
        return self.out(mixed.transpose(1, 2).reshape(x.shape))


def rotate(x: Tensor) -> Tensor:
    """Rotary positions on [batch, heads, tokens, width]."""
    half = x.shape[-1] // 2
    angle = torch.arange(x.shape[-2], dtype=x.dtype)[:, None] / torch.arange(1, half + 1, dtype=x.dtype)
    angle = torch.cat([angle, angle], -1)
    return x * angle.cos() + torch.cat([-x[..., half:], x[..., :half]], -1) * angle.sin()


class KeyValue(nn.Module):
    """Keys and values of every token."""

    def __init__(self, width: int, number: int) -> None:
        super().__init__()
        self.number = number
        self.key, self.value = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return rotate(heads(self.key(x), self.number)), heads(self.value(x), self.number)


class MLP(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(2 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.up(x).chunk(2, -1)
        return self.down(F.silu(gate) * value)


class Layer(nn.Module):
    """A pre-norm layer; without ``source`` of its own it attends to keys and values it is given."""

    def __init__(self, width: int, number: int, mask: str, own: bool) -> None:
        super().__init__()
        self.source = KeyValue(width, number) if own else None
        self.mix, self.mlp = Attention(width, number, mask), MLP(width)
        self.first, self.second = nn.LayerNorm(width), RMSNorm(width)

    def forward(self, x: Tensor, shared: tuple[Tensor, Tensor] | None = None) -> Tensor:
        h = self.first(x)
        x = x + self.mix(h, *(self.source(h) if self.source is not None else shared or ()))
        return x + self.mlp(self.second(x))


class Decoder(nn.Module):
    """``own`` layers with keys and values of their own, then ``cross`` layers over one shared pair, as in YOCO."""

    def __init__(
        self, own: int, cross: int = 0, width: int = 8, number: int = 2, mask: str = "bool", pick: str = "index_select"
    ) -> None:
        super().__init__()
        self.table = nn.Embedding(11, width)
        self.own = nn.ModuleList(Layer(width, number, mask, own=True) for _ in range(own))
        self.shared, self.shared_norm = KeyValue(width, number), RMSNorm(width)
        self.cross = nn.ModuleList(Layer(width, number, mask, own=False) for _ in range(cross))
        self.norm, self.head = RMSNorm(width), nn.Linear(width, 11, bias=False)
        self.pick = PICKS[pick]

    def forward(self, tokens: Tensor, count: Tensor) -> Tensor:
        return self.pick(self.logits(tokens), count)

    def logits(self, tokens: Tensor) -> Tensor:
        """Of every token."""
        x = self.table(tokens)
        for layer in self.own:
            x = layer(x)
        shared = self.shared(self.shared_norm(x)) if len(self.cross) else None
        for layer in self.cross:
            x = layer(x, shared)
        return self.head(self.norm(x))


class Scan(nn.Module):
    """A Mamba layer whose readout other layers gate: every token of it is needed, of the gates only the last."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.into, self.steps = nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.taps = nn.Parameter(torch.linspace(-1, 1, 3 * width).reshape(width, 3))
        self.a = nn.Parameter(-torch.ones(width, 2))
        self.b, self.c, self.out = nn.Linear(width, 2), nn.Linear(width, 2), nn.Linear(width, width)
        self.gate, self.up, self.head = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, 5)

    def forward(self, x: Tensor, count: Tensor) -> Tensor:
        main, z = self.into(x).chunk(2, -1)
        main, _ = causal_conv(main, self.taps, None, x.new_zeros(x.shape[0], x.shape[2], 2))
        steps = F.softplus(self.steps(main))
        m, _ = selective_scan(main, steps, self.a, self.b(main), self.c(main), x.new_zeros(x.shape[0], x.shape[2], 2))
        x = x + self.out(m * F.silu(z))
        x = x + self.up(m * F.silu(self.gate(x)))
        return self.head(x).index_select(1, count - 1)
