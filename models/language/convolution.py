"""The short depthwise convolution in front of a recurrence."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hycompile.models.language.mixer import Span
from hycompile.recurrence import causal_conv

TAPS = 4


class ShortConv(nn.Module):
    """``silu(causal depthwise convolution)``, over the tokens of earlier calls too."""

    def __init__(self, channels: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, TAPS))
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None
        self.state_shape = (channels, TAPS - 1)

    def forward(self, x: Tensor, state: Tensor, span: Span) -> tuple[Tensor, Tensor]:
        """``x`` [batch, tokens, channels], ``state`` [batch, channels, taps - 1]; their successors."""
        y, last = causal_conv(x, self.weight, self.bias, state, span.count)
        return F.silu(y), last
