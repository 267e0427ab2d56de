"""Mamba-2 (Dao & Gu 2024, arXiv 2405.21060), its state space written as decayed linear attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hycompile.models.language.convolution import ShortConv
from hycompile.models.language.mixer import Mixer, Shared, Span, State
from hycompile.models.language.norms import GatedNorm
from hycompile.recurrence import linear_recurrence


class Mamba2(Mixer):
    """A state space with one decay a head: keys B, values dt x, queries C.

    Args:
        width: of the residual stream.
        inner: channels, a multiple of ``head_width``.
        states: dimensions of B and C.
        head_width: channels of a head.
        groups: of heads that share B and C.
        gives: its readout, after the skip and before gate and norm, is the memory of later layers.
    """

    def __init__(
        self, width: int, inner: int, states: int, head_width: int, groups: int = 1, gives: bool = False
    ) -> None:
        super().__init__()
        self.inner, self.states, self.groups, self.gives = inner, states, groups, gives
        self.heads, self.head_width = inner // head_width, head_width
        self.in_proj = nn.Linear(width, 2 * inner + 2 * groups * states + self.heads, bias=False)
        self.conv = ShortConv(inner + 2 * groups * states)
        self.dt_bias = nn.Parameter(torch.empty(self.heads))
        self.a_log = nn.Parameter(torch.empty(self.heads))
        self.skip = nn.Parameter(torch.ones(self.heads))
        self.norm = GatedNorm(inner)
        self.out_proj = nn.Linear(inner, width, bias=False)

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"conv": self.conv.state_shape, "scan": (self.heads, self.states, self.head_width)}

    def prefill(self, x: Tensor, state: State, span: Span, shared: Shared) -> tuple[Tensor, State]:
        shared_width = self.groups * self.states
        gate, u, dt = self.in_proj(x).split([self.inner, self.inner + 2 * shared_width, self.heads], -1)
        u, conv = self.conv(u, state["conv"], span)
        u, b, c = u.split([self.inner, shared_width, shared_width], -1)
        u = u.unflatten(-1, (self.heads, self.head_width))
        dt = span.keep(F.softplus(dt + self.dt_bias))
        y, scan = linear_recurrence(
            self._heads(c), self._heads(b), u * dt[..., None], -self.a_log.exp() * dt, None, state["scan"]
        )
        y = (y + u * self.skip[:, None]).flatten(2)
        if self.gives:
            shared.memory = y
        return self.out_proj(self.norm(y, gate)), {"conv": conv, "scan": scan}

    def _heads(self, x: Tensor) -> Tensor:
        """[batch, tokens, groups x states] as [batch, tokens, heads, states]."""
        groups = x.unflatten(-1, (self.groups, 1, self.states))
        return groups.expand(-1, -1, -1, self.heads // self.groups, -1).flatten(2, 3)
