"""Forms for a single token: the definition written out once, in plain operators. Each takes tokens = 1 only."""

from __future__ import annotations

import torch
from torch import Tensor

from hycompile.recurrence.cache import write_one as cache_write

__all__ = ["cache_write", "causal_conv", "linear_recurrence", "selective_scan"]


def linear_recurrence(
    query: Tensor, key: Tensor, value: Tensor, log_decay: Tensor | None, beta: Tensor | None, state: Tensor
) -> tuple[Tensor, Tensor]:
    """See :func:`hycompile.recurrence.linear_recurrence`."""
    query, key, value = (tensor.transpose(1, 2) for tensor in (query, key, value))
    if log_decay is not None:
        decay = log_decay[:, 0].exp()
        state = state * (decay[..., None, None] if decay.ndim == 2 else decay[..., None])
    update = value if beta is None else (value - key @ state) * beta.transpose(1, 2).unsqueeze(-1)
    state = state + key.transpose(2, 3) * update
    return (query @ state).transpose(1, 2), state


def selective_scan(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """See :func:`hycompile.recurrence.selective_scan`."""
    state = state * (dt[:, 0, :, None] * a).exp() + (dt * x)[:, 0, :, None] * b
    return (state @ c.transpose(1, 2)).transpose(1, 2), state


def causal_conv(
    x: Tensor, weight: Tensor, bias: Tensor | None, state: Tensor, count: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """See :func:`hycompile.recurrence.causal_conv`."""
    window = torch.cat([state, x.transpose(1, 2)], 2)
    output = (window * weight).sum(2).unsqueeze(1)
    if bias is not None:
        output = output + bias
    moved = window[:, :, 1:]
    return output, moved if count is None else torch.where(count > 0, moved, state)
