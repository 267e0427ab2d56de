"""Forms for many tokens in plain operators, whose number does not depend on the number of tokens.

Differentiable, so that models train with them; ``lower-scans`` puts them into graphs. Each equals its definition in
:mod:`hycompile.recurrence.sequential` up to rounding, final state included, for any number of tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hycompile.recurrence.cache import cache_write
from hycompile.recurrence.linear import linear_recurrence
from hycompile.recurrence.selective import selective_scan

__all__ = ["cache_write", "causal_conv", "linear_recurrence", "selective_scan"]


def causal_conv(
    x: Tensor, weight: Tensor, bias: Tensor | None, state: Tensor, count: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """See :func:`hycompile.recurrence.causal_conv`: a sum of shifted products, one a tap, for every runtime has those.

    A state after ``count`` tokens is picked by a product with a matrix of zeros and ones: no gather, no dynamic slice.
    """
    tokens, taps = x.shape[1], weight.shape[1]
    window = torch.cat([state.transpose(1, 2), x], 1)
    output = window[:, :tokens] * weight[:, 0]
    for tap in range(1, taps):
        output = output + window[:, tap : tap + tokens] * weight[:, tap]
    if bias is not None:
        output = output + bias
    if count is None:
        return output, window[:, tokens:].transpose(1, 2)
    rows = torch.arange(taps - 1, device=x.device).unsqueeze(1) + count
    picked = (rows == torch.arange(tokens + taps - 1, device=x.device)).to(x.dtype)
    return output, (picked @ window).transpose(1, 2)
