"""Mamba-1 (Gu & Dao 2023, arXiv 2312.00752)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hycompile.models.language.convolution import ShortConv
from hycompile.models.language.mixer import Mixer, Shared, Span, State
from hycompile.recurrence import selective_scan


class Mamba1(Mixer):
    """A selective state space, with its own decay for every channel and state dimension.

    Args:
        width: of the residual stream.
        inner: channels of the state space.
        states: dimensions of each channel's state.
        rank: of the projection to step sizes.
        gives: its readout, after the skip and before the gate, is the memory of later layers.
    """

    def __init__(self, width: int, inner: int, states: int, rank: int, gives: bool = False) -> None:
        super().__init__()
        self.rank, self.states, self.gives = rank, states, gives
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        self.conv = ShortConv(inner)
        self.x_proj = nn.Linear(inner, rank + 2 * states, bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.a_log = nn.Parameter(torch.empty(inner, states))
        self.skip = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, width, bias=False)

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"conv": self.conv.state_shape, "scan": (self.a_log.shape[0], self.states)}

    def prefill(self, x: Tensor, state: State, span: Span, shared: Shared) -> tuple[Tensor, State]:
        u, gate = self.in_proj(x).chunk(2, -1)
        u, conv = self.conv(u, state["conv"], span)
        dt, b, c = self.x_proj(u).split([self.rank, self.states, self.states], -1)
        dt = span.keep(F.softplus(self.dt_proj(dt)))
        y, scan = selective_scan(u, dt, -self.a_log.exp(), b, c, state["scan"])
        y = y + self.skip * u
        if self.gives:
            shared.memory = y
        return self.out_proj(y * F.silu(gate)), {"conv": conv, "scan": scan}
