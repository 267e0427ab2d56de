"""Forms of the cache write: a blend, which every runtime has, and writes by index, which touch the new slots only."""

from __future__ import annotations

import torch
from torch import Tensor


def cache_write(cache: Tensor, new: Tensor, start: Tensor, count: Tensor | None = None) -> Tensor:
    """See :func:`hycompile.recurrence.cache_write`: each slot takes the newest token that falls to it, if one does.

    Slot s takes the tokens ``r, r + slots, ...`` with ``r = (s - start) mod slots``; the last that counts stays.
    """
    slots, tokens = cache.shape[2], new.shape[2]
    # Both operands of the remainder are positive: runtimes do not agree on its sign.
    first = (torch.arange(slots, device=cache.device) + slots - start % slots) % slots
    last = torch.full((1,), tokens, device=cache.device) if count is None else count
    token = first
    if tokens > slots:
        token = first + (last - 1 - first).clamp(min=0).div(slots, rounding_mode="floor") * slots
    gathered = new.index_select(2, token.clamp(max=tokens - 1))
    return torch.where((first < last).unsqueeze(-1), gathered, cache)


def write_one(cache: Tensor, new: Tensor, start: Tensor, count: Tensor | None = None) -> Tensor:
    """The blend for one token: no gather."""
    slots = cache.shape[2]
    written = torch.arange(slots, device=cache.device) == start % slots
    if count is not None:
        written = written & (count > 0)
    return torch.where(written.unsqueeze(-1), new, cache)


def write_by_put(cache: Tensor, new: Tensor, start: Tensor, count: None = None) -> Tensor:
    """``cache[:, :, positions % slots] = new``; at most as many tokens as slots, all of which count."""
    return torch.ops.aten.index_put(cache, [None, None, _slots(cache, new, start)], new)


def write_by_copy(cache: Tensor, new: Tensor, start: Tensor, count: None = None) -> Tensor:
    """``cache.index_copy(2, positions % slots, new)``, with the same limits."""
    return cache.index_copy(2, _slots(cache, new, start), new)


def _slots(cache: Tensor, new: Tensor, start: Tensor) -> Tensor:
    return (start + torch.arange(new.shape[2], device=cache.device)) % cache.shape[2]
