"""The gated feed-forward layer: no mixing, no state, the same place in the residual stream."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from hycompile.models.language.mixer import Mixer, Shared, Span, State


class MLP(Mixer):
    """SwiGLU: ``W2 (silu(g) u)`` with ``[g, u] = W1 h``."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def prefill(self, x: Tensor, state: State, span: Span, shared: Shared) -> tuple[Tensor, State]:
        gate, up = self.up(x).chunk(2, -1)
        return self.down(F.silu(gate) * up), {}
