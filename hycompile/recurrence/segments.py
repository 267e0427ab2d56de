"""Decays between any two tokens of a segment, and states carried over segments, by a fixed number of operators.

A decay from token j to token i is the exponential of a *sum* of log decays, never a quotient of two products: nothing
overflows, however strong the decay. The sums are matrix products with triangles of ones, for not every runtime has a
cumulative sum, and none has a fast one.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad


def lower_triangle(size: int, like: Tensor, below: int = 0) -> Tensor:
    """Ones where ``row - column >= below``, [size, size], in the precision of ``like``."""
    return torch.ones(size, size, dtype=like.dtype, device=like.device).tril(-below)


def decays_between(log_decay: Tensor) -> Tensor:
    """``exp(g_{j+1} + ... + g_i)`` for ``j <= i``, else 0.

    Args:
        log_decay: ``g``, at most 0, [..., tokens].

    Returns:
        [..., tokens i, tokens j].
    """
    lower = lower_triangle(log_decay.shape[-1], log_decay)
    after = lower_triangle(log_decay.shape[-1], log_decay, below=1)
    return ((log_decay.unsqueeze(-2) * lower) @ after).exp() * lower


def carry(log_decay: Tensor, update: Tensor, state: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """The state before every segment, and after the last: ``S_{n+1} = exp(g_n) S_n + B_n``.

    Segments are taken in groups of ``block``: inside a group, and over the groups, one matrix of decays carries the
    state. Two levels, whatever the number of segments.

    Args:
        log_decay: ``g``, [rows or 1, decays, segments].
        update: ``B``, [rows, decays, segments, width].
        state: ``S_0``, [rows, decays, width].
        block: segments of one group.

    Returns:
        ``S_n`` for every n, [rows, decays, segments, width], and the last state like ``state``.
    """
    rows, decays, segments, width = update.shape
    if segments == 1:
        start = state.unsqueeze(-2)
        return start, (start * log_decay.exp().unsqueeze(-1) + update).squeeze(-2)
    block = min(block, segments)
    missing = -segments % block
    if missing:
        log_decay, update = pad(log_decay, (0, missing)), pad(update, (0, 0, 0, missing))
    groups = (segments + missing) // block
    log_decay = log_decay.reshape(*log_decay.shape[:2], groups, block)
    update = update.reshape(rows, decays, groups, block, width)

    # Row n and column m: from the state (column 0) or update m - 1 to the state before segment n.
    inside = decays_between(pad(log_decay, (1, 0)))
    total = (inside[..., block:, 1:] @ update).squeeze(-2)
    over = decays_between(pad(log_decay.sum(-1), (1, 0)))
    starts = over @ torch.cat([state.unsqueeze(-2), total], -2)
    first = starts[..., :groups, :].unsqueeze(-2)
    before = inside[..., :block, :] @ torch.cat([first, update], -2)
    before = before.reshape(rows, decays, groups * block, width)
    return before[..., :segments, :], starts[..., groups, :]
