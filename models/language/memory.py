"""Gated memory units (Ren et al. 2025, arXiv 2507.06607): they read another layer's readout and keep no state."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from hycompile.models.language.mixer import Mixer, Shared, Span, State
from hycompile.models.language.norms import GatedNorm


class GatedMemory(Mixer):
    """``W2 (m silu(W1 h))``; normalised, ``W2 RMSNorm(m silu(W1 h))``, for memories of Mamba-2 or GatedDeltaNet.

    Args:
        width: of the residual stream.
        memory: width of m.
        normalised: with a norm, after the gate.
    """

    def __init__(self, width: int, memory: int, normalised: bool = False) -> None:
        super().__init__()
        self.gate = nn.Linear(width, memory, bias=False)
        self.norm = GatedNorm(memory) if normalised else None
        self.out_proj = nn.Linear(memory, width, bias=False)

    def prefill(self, x: Tensor, state: State, span: Span, shared: Shared) -> tuple[Tensor, State]:
        assert shared.memory is not None
        gate = self.gate(x)
        read = shared.memory * F.silu(gate) if self.norm is None else self.norm(shared.memory, gate)
        return self.out_proj(read), {}
