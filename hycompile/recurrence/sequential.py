"""The definitions, token by token: slow, plain, and what every other form is proved against."""

from __future__ import annotations

import torch
from torch import Tensor


def linear_recurrence(
    query: Tensor, key: Tensor, value: Tensor, log_decay: Tensor | None, beta: Tensor | None, state: Tensor
) -> tuple[Tensor, Tensor]:
    """See :func:`hycompile.recurrence.linear_recurrence`."""
    outputs = torch.empty_like(value)
    state = state.clone()
    for t in range(key.shape[1]):
        if log_decay is not None:
            decay = log_decay[:, t].exp()
            state = state * decay.reshape(*decay.shape, *[1] * (4 - decay.ndim))
        update = value[:, t]
        if beta is not None:
            update = beta[:, t, :, None] * (update - torch.einsum("bhkv,bhk->bhv", state, key[:, t]))
        state = state + key[:, t, :, :, None] * update[:, :, None, :]
        outputs[:, t] = torch.einsum("bhkv,bhk->bhv", state, query[:, t])
    return outputs, state


def selective_scan(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """See :func:`hycompile.recurrence.selective_scan`."""
    outputs = torch.empty_like(x)
    state = state.clone()
    for t in range(x.shape[1]):
        decay = (dt[:, t, :, None] * a).exp()
        state = state * decay + (dt[:, t] * x[:, t])[:, :, None] * b[:, t, None, :]
        outputs[:, t] = (state * c[:, t, None, :]).sum(-1)
    return outputs, state


def causal_conv(
    x: Tensor, weight: Tensor, bias: Tensor | None, state: Tensor, count: Tensor | None
) -> tuple[Tensor, Tensor]:
    """See :func:`hycompile.recurrence.causal_conv`."""
    taps = weight.shape[1]
    window = torch.cat([state.transpose(1, 2), x], 1)
    outputs = torch.stack([(window[:, t : t + taps] * weight.T).sum(1) for t in range(x.shape[1])], 1)
    last = x.shape[1] if count is None else int(count)
    return outputs if bias is None else outputs + bias, window[:, last : last + taps - 1].transpose(1, 2).clone()


def cache_write(cache: Tensor, new: Tensor, start: Tensor, count: Tensor | None) -> Tensor:
    """See :func:`hycompile.recurrence.cache_write`."""
    slots, last = cache.shape[2], new.shape[2] if count is None else int(count)
    written = cache.clone()
    for index in range(last):
        written[:, :, (int(start) + index) % slots] = new[:, :, index]
    return written
