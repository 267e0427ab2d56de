"""Modules that hold the four operators: one call each, and a toy network with all of them over state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hycompile import recurrence
from hycompile.capture import Call, capture
from hycompile.program import Program

SLOTS, HEADS, KEYS, VALUES, CHANNELS, WIDTH = 32, 2, 8, 8, 16, 4


class Only(nn.Module):
    """One operator, all of whose tensors are inputs; absent ones are None."""

    def __init__(self, operator: Callable[..., Any]) -> None:
        super().__init__()
        self.operator = operator

    def forward(self, *arguments: Tensor | None) -> Any:
        return self.operator(*arguments)


def only(operator: str, inputs: tuple[Tensor | None, ...], dynamic_shapes: Any = None) -> Program:
    """A Program that calls ``hycompile.recurrence.OPERATOR``."""
    module = Only(getattr(recurrence, operator))
    return capture(module.eval(), inputs, dynamic_shapes=dynamic_shapes)


class Toy(nn.Module):
    """Convolution, selective scan, linear recurrences and a cached key, all over state in buffers; batch 1.

    ``prefill(x, count)`` starts anew and takes some tokens, of which ``count`` are real; ``decode(x, position)`` takes
    one more.
    """

    conv_state: Tensor
    scan_state: Tensor
    gated_state: Tensor
    delta_state: Tensor
    cache: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.taps = nn.Parameter(torch.randn(CHANNELS, 4) / 2)
        self.bias = nn.Parameter(torch.randn(CHANNELS) / 4)
        self.a = nn.Parameter(-torch.rand(CHANNELS, WIDTH) - 0.1)
        self.dt, self.bc = nn.Linear(CHANNELS, CHANNELS), nn.Linear(CHANNELS, 2 * WIDTH)
        self.qkv = nn.Linear(CHANNELS, HEADS * (2 * KEYS + VALUES))
        self.gates = nn.Linear(CHANNELS, 2 * HEADS)
        self.register_buffer("conv_state", torch.zeros(1, CHANNELS, 3))
        self.register_buffer("scan_state", torch.zeros(1, CHANNELS, WIDTH))
        self.register_buffer("gated_state", torch.zeros(1, HEADS, KEYS, VALUES))
        self.register_buffer("delta_state", torch.zeros(1, HEADS, KEYS, VALUES))
        self.register_buffer("cache", torch.zeros(1, HEADS, SLOTS, KEYS))

    def prefill(self, x: Tensor, count: Tensor) -> Tensor:
        """[1, tokens, 16] and [1] to [1, tokens, 16]."""
        state = {name: torch.zeros_like(buffer) for name, buffer in self.named_buffers()}
        return self._run(x, state, torch.zeros_like(count), count)

    def decode(self, x: Tensor, position: Tensor) -> Tensor:
        """[1, 1, 16] and [1] to [1, 1, 16]."""
        return self._run(x, dict(self.named_buffers()), position, None)

    def _run(self, x: Tensor, state: dict[str, Tensor], start: Tensor, count: Tensor | None) -> Tensor:
        tokens = x.shape[1]
        real = torch.ones(1, tokens, 1) if count is None else (torch.arange(tokens) < count)[None, :, None].to(x.dtype)
        mixed, conv_state = recurrence.causal_conv(x, self.taps, self.bias, state["conv_state"], count)
        mixed = F.silu(mixed)
        b, c = self.bc(mixed).chunk(2, -1)
        scanned, scan_state = recurrence.selective_scan(
            mixed, F.softplus(self.dt(mixed)) * real, self.a, b, c, state["scan_state"]
        )
        heads = self.qkv(scanned).unflatten(-1, (HEADS, 2 * KEYS + VALUES))
        query, key, value = heads.split((KEYS, KEYS, VALUES), -1)
        key = F.normalize(key, dim=-1) * real[..., None]
        decay, beta = (gate * real for gate in self.gates(scanned).chunk(2, -1))
        decay, beta = -F.softplus(decay) * real, beta.sigmoid() * real
        gated, gated_state = recurrence.linear_recurrence(query, key, value, decay, None, state["gated_state"])
        delta, delta_state = recurrence.linear_recurrence(query, key, gated, decay, beta, state["delta_state"])
        cache = recurrence.cache_write(state["cache"], key.transpose(1, 2), start, count)
        self.conv_state.copy_(conv_state)
        self.scan_state.copy_(scan_state)
        self.gated_state.copy_(gated_state)
        self.delta_state.copy_(delta_state)
        self.cache.copy_(cache)
        looked_up = query.transpose(1, 2) @ cache.transpose(2, 3) @ cache
        return x + delta.flatten(2) + looked_up.transpose(1, 2).flatten(2)


def toy(tokens: int = 17) -> Program:
    """The toy network with its methods ``prefill`` (``tokens`` tokens, of which all but two count) and ``decode``."""
    torch.manual_seed(0)
    calls = {
        "prefill": Call((torch.randn(1, tokens, CHANNELS), torch.tensor([tokens - 2])), function="prefill"),
        "decode": Call((torch.randn(1, 1, CHANNELS), torch.tensor([tokens - 2])), function="decode"),
    }
    return capture(Toy().eval(), methods=calls)
