"""Delta rules: a state that is corrected by what it answers wrongly."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hycompile.models.language.convolution import ShortConv
from hycompile.models.language.mixer import Mixer, Shared, Span, State
from hycompile.models.language.norms import HeadNorm, unit
from hycompile.recurrence import linear_recurrence


class DeltaNet(Mixer):
    """DeltaNet (Yang et al. 2024, arXiv 2406.06484) and, with decay and gate, GatedDeltaNet (arXiv 2412.06464).

    Args:
        width: of the residual stream.
        heads: of queries, keys and values alike.
        head_width: of each.
        gated: a decay for every head, and a gate on the output.
        gives: its readout, before norm and gate, is the memory of later layers.
    """

    def __init__(self, width: int, heads: int, head_width: int, gated: bool = False, gives: bool = False) -> None:
        super().__init__()
        self.heads, self.head_width, self.gives = heads, head_width, gives
        inner = heads * head_width
        self.qkv = nn.Linear(width, 3 * inner, bias=False)
        self.conv = ShortConv(3 * inner, bias=False)
        self.beta = nn.Linear(width, heads, bias=False)
        self.gate = nn.Linear(width, inner, bias=False) if gated else None
        self.dt = nn.Linear(width, heads) if gated else None
        self.a_log = nn.Parameter(torch.empty(heads)) if gated else None
        self.norm = HeadNorm(head_width)
        self.out_proj = nn.Linear(inner, width, bias=False)

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"conv": self.conv.state_shape, "memory": (self.heads, self.head_width, self.head_width)}

    def prefill(self, x: Tensor, state: State, span: Span, shared: Shared) -> tuple[Tensor, State]:
        mixed, conv = self.conv(self.qkv(x), state["conv"], span)
        query, key, value = (part.unflatten(-1, (self.heads, self.head_width)) for part in mixed.chunk(3, -1))
        y, memory = linear_recurrence(
            unit(query) * self.head_width**-0.5,
            span.keep(unit(key)),
            value,
            self._log_decay(x, span),
            span.keep(self.beta(x).sigmoid()),
            state["memory"],
        )
        if self.gives:
            shared.memory = y.flatten(2)
        gate = None if self.gate is None else self.gate(x)
        return self.out_proj(self.norm(y, gate)), {"conv": conv, "memory": memory}

    def _log_decay(self, x: Tensor, span: Span) -> Tensor | None:
        if self.dt is None or self.a_log is None:
            return None
        return span.keep(-self.a_log.exp() * F.softplus(self.dt(x)))
