"""Attention to all tokens before, or to those within a window, with keys and values in a ring."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hycompile.models.language.heads import Heads
from hycompile.models.language.mixer import Mixer, Shared, Span, State
from hycompile.models.language.rotary import Rotary
from hycompile.models.language.windows import in_blocks
from hycompile.recurrence import cache_write


class Attention(Mixer):
    """Grouped-query attention.

    Args:
        width: of the residual stream.
        heads: of queries.
        key_heads: of keys and values; divides ``heads``.
        head_width: of all.
        slots: tokens the ring holds: the window, or the longest context.
        kernel: what is done with queries, keys and values.
        windowed: a token sees the last ``slots`` tokens only.
        rotary: rotary positions, or none.
        bias: on all projections.
        gives: its keys and values are those later layers attend to.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        key_heads: int,
        head_width: int,
        slots: int,
        kernel: Heads,
        windowed: bool = False,
        rotary: bool = True,
        bias: bool = False,
        gives: bool = False,
    ) -> None:
        super().__init__()
        self.heads, self.key_heads, self.head_width = heads, key_heads, head_width
        self.slots, self.window, self.gives = slots, slots if windowed else None, gives
        self.qkv = nn.Linear(width, (heads + 2 * key_heads) * head_width, bias=bias)
        self.rotary = Rotary(head_width) if rotary else None
        self.kernel = kernel
        self.out_proj = nn.Linear(heads * head_width, width, bias=bias)

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        shape = (self.key_heads, self.slots, self.head_width)
        return {"keys": shape, "values": shape}

    def prefill(self, x: Tensor, state: State, span: Span, shared: Shared) -> tuple[Tensor, State]:
        query, key, value = self._project(x, span)
        after = {
            "keys": cache_write(state["keys"], key, span.start, span.count),
            "values": cache_write(state["values"], value, span.start, span.count),
        }
        if span.fresh and self.window is not None and _fits(span.tokens, self.window):
            return self.out_proj(in_blocks(self.kernel, query, key, value, self.window)), after
        seen = span.among_themselves(self.window)
        if not span.fresh:
            seen = torch.cat([span.of_the_ring(self.slots, self.window), seen], -1)
            key, value = torch.cat([state["keys"], key], 2), torch.cat([state["values"], value], 2)
        return self._attend(query, key, value, seen, shared), after

    def step(self, x: Tensor, state: State, span: Span, shared: Shared) -> tuple[Tensor, State]:
        query, key, value = self._project(x, span)
        keys = cache_write(state["keys"], key, span.start)
        values = cache_write(state["values"], value, span.start)
        # A ring of a window's width holds that window, once the token is in it.
        return self._attend(query, keys, values, span.filled(self.slots), shared), {"keys": keys, "values": values}

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, seen: Tensor, shared: Shared) -> Tensor:
        if self.gives:
            shared.keys, shared.values, shared.seen = key, value, seen
        return self.out_proj(self.kernel(query, key, value, seen))

    def _project(self, x: Tensor, span: Span) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, [batch, heads, tokens, head width] each."""
        sizes = [self.heads * self.head_width, *[self.key_heads * self.head_width] * 2]
        parts = self.qkv(x).split(sizes, -1)
        query, key, value = (part.unflatten(-1, (-1, self.head_width)).transpose(1, 2) for part in parts)
        if self.rotary is not None:
            positions = span.positions()
            query, key = self.rotary(query, positions), self.rotary(key, positions)
        return query, key, value


def _fits(tokens: object, window: int) -> bool:
    """Whether blocks are worth it; a number of tokens that is not known takes the mask."""
    return isinstance(tokens, int) and tokens >= 2 * window and tokens % window == 0
