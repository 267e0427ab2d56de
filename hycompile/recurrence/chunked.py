"""Forms for many tokens in plain operators, whose number does not depend on the number of tokens.

Differentiable, so that models train with them; ``lower-scans`` puts them into graphs. Each equals its definition in
:mod:`hycompile.recurrence.sequential` up to rounding, final state included, for any number of tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

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


def cache_write(cache: Tensor, new: Tensor, start: Tensor, count: Tensor | None = None) -> Tensor:
    """See :func:`hycompile.recurrence.cache_write`: each slot takes the newest token that falls to it, if one does.

    Slot s takes the tokens ``r, r + slots, ...`` with ``r = (s - start) mod slots``; the last that counts stays.
    """
    slots, tokens = cache.shape[2], new.shape[2]
    # Both operands of the remainder are positive: runtimes do not agree on its sign.
    first = (torch.arange(slots, device=cache.device) + slots - start % slots) % slots
    last = torch.full_like(start, tokens) if count is None else count
    token = first
    if tokens > slots:
        token = first + (last - 1 - first).clamp(min=0).div(slots, rounding_mode="floor") * slots
    gathered = new.index_select(2, token.clamp(max=tokens - 1))
    return torch.where((first < last).unsqueeze(-1), gathered, cache)
