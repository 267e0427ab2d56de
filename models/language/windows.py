"""Attention within a window, by blocks: linear in the number of tokens, where a mask over all pairs is quadratic."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from hycompile.models.language.heads import Heads


def in_blocks(heads: Heads, query: Tensor, key: Tensor, value: Tensor, window: int) -> Tensor:
    """What ``heads`` gives when each token of a text that starts here sees the ``window`` last ones, itself included.

    Each block of ``window`` tokens meets itself and the block before, and nothing else can be in its windows.

    Args:
        heads: what to do with queries, keys and values.
        query: [batch, heads, tokens, head width]; tokens a multiple of ``window``.
        key: [batch, key heads, tokens, head width].
        value: like ``key``.
        window: tokens.

    Returns:
        [batch, tokens, heads x head width].
    """
    batch, _, tokens, _ = query.shape
    blocks = tokens // window
    row = torch.arange(window, device=query.device)[:, None]
    column = torch.arange(2 * window, device=query.device)
    near = (column > row) & (column <= row + window)
    exists = torch.arange(blocks, device=query.device)[:, None] * window + column >= window
    seen = (near & exists[:, None]).unsqueeze(1).repeat(batch, 1, 1, 1)
    y = heads(_blocks(query, window), _with_previous(key, window), _with_previous(value, window), seen)
    return y.reshape(batch, tokens, -1)


def _blocks(x: Tensor, window: int) -> Tensor:
    """[batch, heads, tokens, width] as [batch x blocks, heads, window, width]."""
    return x.unflatten(2, (-1, window)).transpose(1, 2).flatten(0, 1)


def _with_previous(x: Tensor, window: int) -> Tensor:
    """Each block behind the one before it, [batch x blocks, heads, 2 window, width]; zeros before the first."""
    before = F.pad(x, (0, 0, window, 0))[:, :, : x.shape[2]]
    return torch.cat([_blocks(before, window), _blocks(x, window)], 2)
