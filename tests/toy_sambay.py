"""A toy of SambaY's second half: a state space gives a memory, one attention a cache, and two pairs read both."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hycompile.capture import Call, capture
from hycompile.program import Program
from hycompile.recurrence import cache_write, selective_scan

WIDTH, INNER, SLOTS, STATE = 8, 12, 10, 4


class Space(nn.Module):
    """Mamba's scan with skip and gate; gives the readout before the gate as memory."""

    def __init__(self) -> None:
        super().__init__()
        self.project, self.out = nn.Linear(WIDTH, 2 * INNER), nn.Linear(INNER, WIDTH)
        self.step, self.b, self.c = nn.Linear(INNER, INNER), nn.Linear(INNER, STATE), nn.Linear(INNER, STATE)
        self.a, self.skip = nn.Parameter(-torch.rand(INNER, STATE)), nn.Parameter(torch.rand(INNER))
        self.state: Tensor
        self.register_buffer("state", torch.zeros(1, INNER, STATE))

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        x, z = self.project(h).chunk(2, -1)
        y, state = selective_scan(x, F.softplus(self.step(x)), self.a, self.b(x), self.c(x), self.state)
        self.state.copy_(state)
        memory = y + self.skip * x
        return self.out(memory * F.silu(z)), memory


class Attention(nn.Module):
    """Attention to a cache; makes keys and values of its own, or reads those it is given."""

    def __init__(self, makes: bool) -> None:
        super().__init__()
        self.q, self.o = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        if makes:
            self.kv = nn.Linear(WIDTH, 2 * WIDTH)
            self.keys: Tensor
            self.values: Tensor
            for name in ("keys", "values"):
                self.register_buffer(name, torch.zeros(1, 1, SLOTS, WIDTH))

    def write(self, h: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values with those of ``h`` in them."""
        k, v = self.kv(h).chunk(2, -1)
        keys = cache_write(self.keys, k[:, None], position)
        values = cache_write(self.values, v[:, None], position)
        self.keys.copy_(keys)
        self.values.copy_(values)
        return keys, values

    def forward(self, h: Tensor, cache: tuple[Tensor, Tensor], position: Tensor) -> Tensor:
        rows = position + torch.arange(h.shape[1])
        mask = torch.arange(SLOTS)[None] <= rows[:, None]
        return self.o(F.scaled_dot_product_attention(self.q(h)[:, None], *cache, mask)[:, 0])


class Memory(nn.Module):
    """A gated memory unit, normalised or scaled by a diagonal before its output."""

    def __init__(self, normalised: bool) -> None:
        super().__init__()
        self.gate, self.out = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)
        self.norm = nn.RMSNorm(INNER, eps=1e-5) if normalised else None
        self.diagonal = nn.Parameter(torch.rand(INNER) + 0.5)
        if self.norm is not None:
            nn.init.normal_(self.norm.weight, 1.0, 0.3)

    def forward(self, h: Tensor, memory: Tensor) -> Tensor:
        scaled = memory * self.diagonal if self.norm is None else self.norm(memory)
        return self.out(scaled * F.silu(self.gate(h)))


class Toy(nn.Module):
    """``forward(tokens [1, n], position [1])`` continues from its state: [1, n, 20] logits.

    Args:
        normalised: whether the memory units normalise what they read.
        own_caches: every cross attention keeps a cache of its own, filled from the shared keys and values.
    """

    def __init__(self, normalised: bool = False, own_caches: bool = False) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(20, WIDTH), nn.Linear(WIDTH, 20)
        self.space, self.full = Space(), Attention(makes=True)
        self.memories = nn.ModuleList(Memory(normalised) for _ in range(2))
        self.crosses = nn.ModuleList(Attention(makes=own_caches) for _ in range(2))
        self.own_caches = own_caches
        for cross in self.crosses if own_caches else ():
            cross.kv = self.full.kv
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(7))

    def forward(self, tokens: Tensor, position: Tensor) -> Tensor:
        h = self.embed(tokens)
        mixed, memory = self.space(self.norms[0](h))
        h = h + mixed
        source = self.norms[1](h)
        cache = self.full.write(source, position)
        h = h + self.full(source, cache, position)
        pairs: Any = zip(self.memories, self.crosses, strict=True)
        for index, (unit, cross) in enumerate(pairs):
            h = h + unit(self.norms[2 + 2 * index](h), memory)
            own = cross.write(source, position) if self.own_caches else cache
            h = h + cross(self.norms[3 + 2 * index](h), own, position)
        return self.head(self.norms[6](h))


@functools.cache
def toy(normalised: bool = False, own_caches: bool = False) -> Program:
    """The toy captured as ``prefill`` of four tokens and ``decode`` of one."""
    torch.manual_seed(0)
    calls = {
        name: Call((torch.randint(0, 20, (1, count)), torch.tensor([start])))
        for name, count, start in (("prefill", 4, 0), ("decode", 1, 4))
    }
    return capture(Toy(normalised, own_caches).eval(), methods=calls)
