"""The linear recurrence in chunks: matrix products inside a chunk, one carried state a chunk.

Without ``beta`` the form of Mamba-2 (Dao and Gu 2024, section 6), with decay per head or per key dimension; with
``beta`` the WY form of the delta rule (Yang et al. 2024, "Parallelizing linear transformers with the delta rule" and
"Gated delta networks"). The number of operators does not depend on the number of tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from hycompile.recurrence.affine import carry_affine, unit_lower_inverse
from hycompile.recurrence.segments import carry, decays_between, lower_triangle

CHUNK = 64
KEYED_CHUNK = 16
"""Tokens of a chunk where each key dimension has its decay: one number a pair of tokens *and* key dimension is held."""
BLOCK = 16
SPAN = 8192
"""Tokens up to which the delta rule's graph is the same; the next size reaches to the square of the chunks therein."""


class _Chunks(NamedTuple):
    """Tensors of all chunks: [rows = batch * heads, chunks, tokens of a chunk, ...]."""

    query: Tensor
    key: Tensor
    value: Tensor
    beta: Tensor | None
    log_decay: Tensor | None


@dataclass(frozen=True)
class _Decays:
    """What decays inside every chunk; rows and chunks are 1 where nothing does.

    Args:
        between: from token j to token i, [rows, chunks, tokens i, tokens j], or with the key width before the tokens.
        start: from before the chunk to each token, [rows, chunks, tokens, key width or 1]; None where nothing decays.
        end: from each token to the end, like ``start``.
        log_whole: over the chunk, as a logarithm, [rows, chunks, key width or 1].
    """

    between: Tensor
    start: Tensor | None
    end: Tensor | None
    log_whole: Tensor

    def products(self, to: Tensor, source: Tensor) -> Tensor:
        """``sum_k to[i, k] source[j, k] decay[i, j, k]`` for ``j <= i``, else 0: [rows, chunks, tokens i, tokens j]."""
        if self.between.ndim == 4:
            return to @ source.transpose(-1, -2) * self.between
        to, source = to.transpose(-1, -2).unsqueeze(-1), source.transpose(-1, -2).unsqueeze(-2)
        return (to * source * self.between).sum(-3)

    def from_start(self, tensor: Tensor) -> Tensor:
        return tensor if self.start is None else tensor * self.start

    def to_end(self, tensor: Tensor) -> Tensor:
        return tensor if self.end is None else tensor * self.end


def linear_recurrence(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    log_decay: Tensor | None,
    beta: Tensor | None,
    state: Tensor,
    chunk: int | None = None,
    block: int | None = None,
) -> tuple[Tensor, Tensor]:
    """See :func:`hycompile.recurrence.linear_recurrence`; any number of tokens.

    Args:
        query: as there, like all tensors.
        chunk: tokens computed by one matrix product; 64, or 16 with a decay per key dimension.
        block: chunks of one group of :func:`hycompile.recurrence.segments.carry`; 16.
    """
    batch, tokens, heads, width = value.shape
    keyed = log_decay is not None and log_decay.ndim == 4
    chunk = min(chunk or (KEYED_CHUNK if keyed else CHUNK), tokens)
    parts = _Chunks(
        *(_split(tensor, chunk) for tensor in (query, key, value)),
        *(None if tensor is None else _split(tensor, chunk) for tensor in (beta, log_decay)),
    )
    rows, chunks = parts.value.shape[:2]
    start = state.reshape(rows, *state.shape[2:])
    output, last = _plain(parts, start, block or BLOCK) if parts.beta is None else _delta(parts, parts.beta, start)
    output = output.reshape(batch, heads, chunks * chunk, width)[:, :, :tokens].transpose(1, 2)
    return output, last.reshape(state.shape)


def _split(tensor: Tensor, chunk: int) -> Tensor:
    """[batch, tokens, heads, ...] to [batch * heads, chunks, chunk, ...]; zeros fill the last: they change no state."""
    missing = -tensor.shape[1] % chunk
    if missing:
        tensor = pad(tensor, (*[0, 0] * (tensor.ndim - 2), 0, missing))
    tensor = tensor.transpose(1, 2)
    return tensor.reshape(tensor.shape[0] * tensor.shape[1], tensor.shape[2] // chunk, chunk, *tensor.shape[3:])


def _decays(parts: _Chunks) -> _Decays:
    log_decay, like = parts.log_decay, parts.value
    size = like.shape[2]
    if log_decay is None:
        between = lower_triangle(size, like)[None, None]
        return _Decays(between, None, None, torch.zeros(1, like.shape[1], 1, dtype=like.dtype, device=like.device))
    if keyed := log_decay.ndim == 4:
        log_decay = log_decay.transpose(-1, -2)
    between = decays_between(log_decay)
    sums = log_decay @ lower_triangle(size, log_decay).T
    start, end = sums.exp(), between[..., -1, :]
    start, end = (start.transpose(-1, -2), end.transpose(-1, -2)) if keyed else (start[..., None], end[..., None])
    last = sums[..., -1]
    return _Decays(between, start, end, last if keyed else last[..., None])


def _plain(parts: _Chunks, state: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """``O = (Q K^T * D) V + (start Q) S``; ``S <- whole S + (end K)^T V``."""
    decays = _decays(parts)
    update = decays.to_end(parts.key).transpose(-1, -2) @ parts.value
    rows, chunks, keys, width = update.shape
    separate = decays.log_whole.shape[-1]
    before, last = carry(
        decays.log_whole.transpose(1, 2),
        update.reshape(rows, chunks, separate, -1).transpose(1, 2),
        state.reshape(rows, separate, -1),
        block,
    )
    before = before.transpose(1, 2).reshape(rows, chunks, keys, width)
    output = decays.products(parts.query, parts.key) @ parts.value + decays.from_start(parts.query) @ before
    return output, last.reshape(state.shape)


def _delta(parts: _Chunks, beta: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """The WY form: ``T = (I + tril(beta K K^T * D, -1))^-1``, ``W = T (beta start K)``, ``U = T (beta V) - W S``.

    Then ``O = (start Q) S + (Q K^T * D) U``; ``S <- whole S + (end K)^T U``, an affine map of S.
    """
    decays = _decays(parts)
    beta, key = beta.unsqueeze(-1), parts.key
    size, keys = key.shape[-2:]
    doublings = max(1, math.ceil(math.log2(SPAN / size)))
    below = decays.products(key, key) * lower_triangle(size, key, below=1) * beta
    inverse = unit_lower_inverse(below)
    erase = inverse @ (decays.from_start(key) * beta)
    write = inverse @ (parts.value * beta)
    end = decays.to_end(key).transpose(-1, -2)
    kept = torch.eye(keys, dtype=key.dtype, device=key.device) * decays.log_whole.exp().unsqueeze(-1)
    before, last = carry_affine(kept - end @ erase, end @ write, state, doublings)
    update = write - erase @ before
    return decays.from_start(parts.query) @ before + decays.products(parts.query, key) @ update, last
