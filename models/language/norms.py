"""Norms of heads and of gated readouts."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

EPSILON = 1e-5


class GatedNorm(nn.Module):
    """``RMSNorm(x silu(gate))`` over all channels: the norm comes after the gate (Dao & Gu 2024)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width, eps=EPSILON)

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        """Both [batch, tokens, width]."""
        return self.norm(x * F.silu(gate))


class HeadNorm(nn.Module):
    """``RMSNorm`` over each head, then the gate if there is one."""

    def __init__(self, head_width: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(head_width, eps=EPSILON)

    def forward(self, x: Tensor, gate: Tensor | None) -> Tensor:
        """``x`` [batch, tokens, heads, head width], gate [batch, tokens, width], to [batch, tokens, width]."""
        x = self.norm(x).flatten(2)
        return x if gate is None else x * F.silu(gate)


def unit(x: Tensor) -> Tensor:
    """Vectors of length one along the last dimension; the epsilon is that of the kernels delta rules train with."""
    return x * (x.square().sum(-1, keepdim=True) + 1e-6).rsqrt()
