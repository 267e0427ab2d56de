"""The selective scan in chunks: all chunks step through their tokens together, and one carried state a chunk.

Each channel and state dimension has its own decay, so that no matrix product over tokens exists (see the rule on
Mamba-2's chunks); instead ``chunk`` steps are written out, each for every chunk at once. The number of operators
depends on ``chunk``, not on the number of tokens, and no tensor holds tokens x channels x state width numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from hycompile.recurrence.segments import carry, lower_triangle

CHUNK = 32
BLOCK = 8
_PART = 8
"""Tokens of a chunk whose contributions to its state are held at once."""


def selective_scan(
    x: Tensor,
    dt: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    state: Tensor,
    chunk: int | None = None,
    block: int | None = None,
) -> tuple[Tensor, Tensor]:
    """See :func:`hycompile.recurrence.selective_scan`; any number of tokens.

    Args:
        x: as there, like all tensors.
        chunk: steps written out; 32.
        block: chunks of one group of :func:`hycompile.recurrence.segments.carry`; 8.
    """
    tokens = x.shape[1]
    chunk = min(chunk or CHUNK, tokens)
    dt, driven, b, c = (_split(tensor, chunk) for tensor in (dt, dt * x, b, c))
    # The chunk's own contribution to the state after it, and what decays over it.
    sums = lower_triangle(chunk, dt) @ dt
    a = a if a.ndim == 2 else a.unsqueeze(1)
    update = _contribution(sums[:, :, -1:] - sums, driven, a if a.ndim == 2 else a.unsqueeze(1), b)
    batch, chunks, channels, width = update.shape
    log_whole = sums[:, :, -1, :, None] * a
    before, last = carry(
        log_whole.reshape(batch, chunks, -1).transpose(1, 2),
        update.reshape(batch, chunks, -1).transpose(1, 2).unsqueeze(-1),
        state.reshape(batch, -1, 1),
        block or BLOCK,
    )
    current = before.squeeze(-1).transpose(1, 2).reshape(batch, chunks, channels, width)
    dt, driven, b, c = dt.unsqueeze(-1), driven.unsqueeze(-1), b.unsqueeze(-2), c.unsqueeze(-1)
    outputs: list[Tensor] = []
    for t in range(chunk):
        current = current * (dt[:, :, t] * a).exp() + driven[:, :, t] * b[:, :, t]
        outputs.append(current @ c[:, :, t])
    output = torch.stack(outputs, 2).reshape(batch, chunks * chunk, channels)[:, :tokens]
    return output, last.reshape(state.shape)


def _split(tensor: Tensor, chunk: int) -> Tensor:
    """[batch, tokens, width] to [batch, chunks, chunk, width]; zeros fill the last: they change no state."""
    missing = -tensor.shape[1] % chunk
    if missing:
        tensor = pad(tensor, (0, 0, 0, missing))
    return tensor.reshape(tensor.shape[0], tensor.shape[1] // chunk, chunk, tensor.shape[2])


def _contribution(left: Tensor, driven: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """``sum_t exp(a left_t) driven_t b_t`` over the tokens of a chunk, a part of them at a time.

    Args:
        left: step sizes summed from after each token to the end of its chunk, [batch, chunks, chunk, channels].
        driven: ``dt x``, like ``left``.
        a: [channels, state width], or [batch, 1, 1, channels, state width].
        b: [batch, chunks, chunk, state width].

    Returns:
        [batch, chunks, channels, state width].
    """

    def total(left: Tensor, driven: Tensor, b: Tensor) -> Tensor:
        return ((left.unsqueeze(-1) * a).exp() * driven.unsqueeze(-1) * b.unsqueeze(-2)).sum(2)

    if left.shape[2] <= _PART:
        # Runtimes do not expect a split into one piece.
        return total(left, driven, b)
    parts = zip(*(tensor.split(_PART, 2) for tensor in (left, driven, b)), strict=True)
    return torch.stack([total(*part) for part in parts]).sum(0)
