"""Linear attentions without a delta rule: gated linear attention, RetNet and HGRN2."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hycompile.models.language.mixer import Mixer, Shared, Span, State
from hycompile.models.language.norms import HeadNorm
from hycompile.models.language.rotary import Rotary
from hycompile.recurrence import linear_recurrence

# Gates of GLA are close to one: the root of this order is taken of them (Yang et al. 2023).
_GATE_ROOT = 16.0
_GATE_RANK = 16


class LinearAttention(Mixer):
    """Queries, keys and values over a matrix state; what differs is where keys and decay come from.

    Args:
        width: of the residual stream.
        heads: of queries, keys and values alike.
        head_width: of each.
        gated: a gate on the output.
    """

    def __init__(self, width: int, heads: int, head_width: int, gated: bool = True) -> None:
        super().__init__()
        self.heads, self.head_width = heads, head_width
        inner = heads * head_width
        self.q_proj = nn.Linear(width, inner, bias=False)
        self.k_proj = nn.Linear(width, inner, bias=False)
        self.v_proj = nn.Linear(width, inner, bias=False)
        self.gate = nn.Linear(width, inner, bias=False) if gated else None
        self.norm = HeadNorm(head_width)
        self.out_proj = nn.Linear(inner, width, bias=False)

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"memory": (self.heads, self.head_width, self.head_width)}

    @abstractmethod
    def read(self, x: Tensor, span: Span) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys [batch, tokens, heads, head width] and the log decay, by head or by key dimension."""

    def prefill(self, x: Tensor, state: State, span: Span, shared: Shared) -> tuple[Tensor, State]:
        query, key, log_decay = self.read(x, span)
        value = self.split(self.v_proj(x))
        y, memory = linear_recurrence(query, span.keep(key), value, span.keep(log_decay), None, state["memory"])
        gate = None if self.gate is None else self.gate(x)
        return self.out_proj(self.norm(y, gate)), {"memory": memory}

    def split(self, x: Tensor) -> Tensor:
        """[batch, tokens, inner] as [batch, tokens, heads, head width]."""
        return x.unflatten(-1, (self.heads, self.head_width))


class GatedLinearAttention(LinearAttention):
    """GLA (Yang et al. 2023, arXiv 2312.06635): a decay for every key dimension, from the token."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__(width, heads, head_width)
        self.decay = nn.Sequential(
            nn.Linear(width, _GATE_RANK, bias=False), nn.Linear(_GATE_RANK, heads * head_width, bias=True)
        )

    def read(self, x: Tensor, span: Span) -> tuple[Tensor, Tensor, Tensor]:
        query = self.split(self.q_proj(x)) * self.head_width**-0.5
        # The log of a sigmoid, in an operator that every runtime has.
        log_decay = -F.softplus(-self.decay(x)) / _GATE_ROOT
        return query, self.split(self.k_proj(x)), self.split(log_decay)


class RetNet(LinearAttention):
    """Retention (Sun et al. 2023, arXiv 2307.08621): a fixed decay for every head, and rotary positions."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__(width, heads, head_width)
        self.rotary = Rotary(head_width)
        self.register_buffer("log_decay", torch.log1p(-(2.0 ** (-5.0 - torch.arange(heads)))))

    def read(self, x: Tensor, span: Span) -> tuple[Tensor, Tensor, Tensor]:
        query, key = (self._rotated(projection(x), span) for projection in (self.q_proj, self.k_proj))
        log_decay = self.get_buffer("log_decay").expand(*x.shape[:2], -1)
        return query * self.head_width**-0.5, key, log_decay

    def _rotated(self, x: Tensor, span: Span) -> Tensor:
        return self.rotary(self.split(x).transpose(1, 2), span.positions()).transpose(1, 2)


class HGRN2(LinearAttention):
    """HGRN2 (Qin et al. 2024, arXiv 2404.07904): keys are what the forget gate does not keep.

    Args:
        lower: bound below which no gate falls; it rises from layer to layer.
    """

    def __init__(self, width: int, heads: int, head_width: int, lower: float = 0.0) -> None:
        super().__init__(width, heads, head_width, gated=False)
        self.lower = lower

    def read(self, x: Tensor, span: Span) -> tuple[Tensor, Tensor, Tensor]:
        query = F.silu(self.split(self.q_proj(x)))
        kept = self.lower + (1 - self.lower) * self.split(self.k_proj(x)).sigmoid()
        return query, 1 - kept, kept.log()
