"""Apriel-H1's mixer: a Mamba whose projections have the shapes of a grouped-query attention (MambaInLlama)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hycompile.models.language.convolution import ShortConv
from hycompile.models.language.heads import repeat
from hycompile.models.language.mixer import Mixer, Shared, Span, State
from hycompile.recurrence import selective_scan


class MambaInLlama(Mixer):
    """A selective scan for every head, with as many states as a head is wide: C from queries, B and x from keys.

    Args:
        width: of the residual stream.
        heads: of C, of the gate and of step sizes.
        key_heads: of x and B; divides ``heads``.
        head_width: of all, and dimensions of the state.
        rank: of the projection to step sizes.
    """

    def __init__(self, width: int, heads: int, key_heads: int, head_width: int, rank: int) -> None:
        super().__init__()
        self.heads, self.key_heads, self.head_width = heads, key_heads, head_width
        self.inner, self.outer = heads * head_width, key_heads * head_width
        self.in_proj = nn.Linear(width, 2 * self.inner + 2 * self.outer, bias=False)
        self.conv = ShortConv(self.inner)
        self.dt_in = nn.Linear(width, rank, bias=False)
        self.dt_proj = nn.Linear(rank, self.inner)
        self.a_log = nn.Parameter(torch.empty(self.inner, head_width))
        self.skip = nn.Parameter(torch.ones(self.inner))
        self.out_proj = nn.Linear(self.inner, width, bias=False)

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"conv": self.conv.state_shape, "scan": (self.inner, self.head_width)}

    def prefill(self, x: Tensor, state: State, span: Span, shared: Shared) -> tuple[Tensor, State]:
        batch, tokens, _ = x.shape
        gate, u, b, c = self.in_proj(x).split([self.inner, self.outer, self.outer, self.inner], -1)
        u, conv = self.conv(self._repeated(u).transpose(1, 2).flatten(2), state["conv"], span)
        dt = span.keep(F.softplus(self.dt_proj(self.dt_in(x))))
        # Every head reads and writes by its own B and C: heads are rows of the batch.
        a = -self.a_log.exp().unflatten(0, (self.heads, self.head_width)).repeat(batch, 1, 1)
        scan = state["scan"].reshape(batch * self.heads, self.head_width, self.head_width)
        y, scan = selective_scan(self._rows(u), self._rows(dt), a, self._repeated(b).flatten(0, 1), self._rows(c), scan)
        y = y.unflatten(0, (batch, self.heads)).transpose(1, 2).reshape(batch, tokens, self.inner)
        y = (y + self.skip * u) * F.silu(gate)
        return self.out_proj(y), {"conv": conv, "scan": scan.reshape(batch, self.inner, self.head_width)}

    def _rows(self, x: Tensor) -> Tensor:
        """[batch, tokens, inner] as [batch x heads, tokens, head width]."""
        return x.unflatten(-1, (self.heads, self.head_width)).transpose(1, 2).flatten(0, 1)

    def _repeated(self, x: Tensor) -> Tensor:
        """[batch, tokens, outer] as [batch, heads, tokens, head width], key heads repeated."""
        keys = x.unflatten(-1, (self.key_heads, self.head_width)).transpose(1, 2)
        return repeat(keys, self.heads // self.key_heads)
