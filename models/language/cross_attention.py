"""Attention to the keys and values of an earlier layer (YOCO, Sun et al. 2024, arXiv 2405.05254)."""

from __future__ import annotations

from torch import Tensor, nn

from hycompile.models.language.heads import Heads
from hycompile.models.language.mixer import Mixer, Shared, Span, State
from hycompile.models.language.rotary import Rotary


class CrossAttention(Mixer):
    """Queries of its own, and the cache that another layer gives: no state, two projections.

    Args:
        width: of the residual stream.
        heads: of queries.
        head_width: of the shared keys.
        kernel: what is done with queries, keys and values.
        rotary: rotary positions on queries, as the layer that gives has on keys.
        bias: on both projections.
    """

    def __init__(
        self, width: int, heads: int, head_width: int, kernel: Heads, rotary: bool = True, bias: bool = False
    ) -> None:
        super().__init__()
        self.head_width, self.kernel = head_width, kernel
        self.q_proj = nn.Linear(width, heads * head_width, bias=bias)
        self.rotary = Rotary(head_width) if rotary else None
        self.out_proj = nn.Linear(heads * head_width, width, bias=bias)

    def prefill(self, x: Tensor, state: State, span: Span, shared: Shared) -> tuple[Tensor, State]:
        assert shared.keys is not None
        assert shared.values is not None
        assert shared.seen is not None
        query = self.q_proj(x).unflatten(-1, (-1, self.head_width)).transpose(1, 2)
        if self.rotary is not None:
            query = self.rotary(query, span.positions())
        return self.out_proj(self.kernel(query, shared.keys, shared.values, shared.seen)), {}
