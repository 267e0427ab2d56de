"""The selective scan in chunks: all chunks step through their tokens together, and state is carried over the chunks.

Each channel and state dimension has its own decay, so that no matrix product over tokens exists (see the rule on
Mamba-2's chunks); instead ``chunk`` steps are written out, each for every chunk at once: first from an empty state, for
what a chunk adds, then from the state that comes before it, for the outputs. The same is done over the chunks of a
group, and groups are carried by matrices. The number of operators depends on ``chunk`` and ``block``, not on the number
of tokens, and no tensor holds tokens x channels x state width numbers.

Channels come last in every tensor: a step multiplies rows of channels, not of the few state dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import pad

from hycompile.recurrence.segments import carry

CHUNK = 32
BLOCK = 8
_GROUPS = 8
"""Groups whose decays between each other are one matrix."""

_Part = Callable[[int], Tensor]


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
        chunk: steps over tokens that are written out; 32.
        block: steps over the chunks of a group that are written out; 8.
    """
    tokens = x.shape[1]
    chunk = min(chunk or CHUNK, tokens)
    dt, driven, b, c = (_split(tensor, chunk) for tensor in (dt, dt * x, b, c))
    a = a.transpose(-1, -2) if a.ndim == 2 else a.transpose(-1, -2).unsqueeze(1)
    dts, drives, bs = (_each(tensor) for tensor in (dt.unsqueeze(-2), driven.unsqueeze(-2), b.unsqueeze(-1)))

    def decay(t: int) -> Tensor:
        return (dts[t] * a).exp()

    def update(t: int) -> Tensor:
        return drives[t] * bs[t]

    start = state.transpose(1, 2).unsqueeze(1)
    if dt.shape[1] > 1:
        added = _after(update(0), decay, update, range(1, chunk))
        start = _before(dt.sum(2, keepdim=True) * a, added, start, block or BLOCK)
    outputs: list[Tensor] = []
    current = start
    for read, current in zip(_each(c.unsqueeze(-2)), _steps(start, decay, update, range(chunk)), strict=True):
        outputs.append(read @ current)
    # Zeros behind the last token left the state as it was.
    return torch.cat(outputs, 2).flatten(1, 2)[:, :tokens], current[:, -1].transpose(1, 2)


def _split(tensor: Tensor, chunk: int) -> Tensor:
    """[batch, tokens, width] to [batch, chunks, chunk, width]; zeros fill the last: they change no state."""
    missing = -tensor.shape[1] % chunk
    if missing:
        tensor = pad(tensor, (0, 0, 0, missing))
    return tensor.reshape(tensor.shape[0], tensor.shape[1] // chunk, chunk, tensor.shape[2])


def _each(tensor: Tensor) -> list[Tensor]:
    """Of [batch, chunks, steps, ...], every step."""
    return [tensor[:, :, t] for t in range(tensor.shape[2])]


def _steps(current: Tensor, decay: _Part, update: _Part, steps: range) -> Iterator[Tensor]:
    """``h_t = decay(t) h_{t-1} + update(t)`` of every step, from ``current`` on."""
    for t in steps:
        current = current * decay(t) + update(t)
        yield current


def _after(current: Tensor, decay: _Part, update: _Part, steps: range) -> Tensor:
    """The state after the last step, which is ``current`` if there are none."""
    *_, last = (current, *_steps(current, decay, update, steps))
    return last


def _before(log_decay: Tensor, added: Tensor, start: Tensor, block: int) -> Tensor:
    """The state before every chunk.

    Args:
        log_decay: of whole chunks, [batch, chunks, state width, channels].
        added: by whole chunks to their state, the same shape.
        start: before the first, [batch, 1, state width, channels].
        block: chunks of a group.

    Returns:
        The shape of ``added``.
    """
    batch, chunks, width, channels = added.shape
    block = min(block, chunks)
    missing = -chunks % block
    if missing:
        log_decay, added = (pad(tensor, (0, 0, 0, 0, 0, missing)) for tensor in (log_decay, added))
    groups = (chunks + missing) // block
    log_decay, added = (tensor.reshape(batch, groups, block, width, channels) for tensor in (log_decay, added))
    decay, update = _each(log_decay.exp()).__getitem__, _each(added).__getitem__
    if groups > 1:
        by_group = _after(update(0), decay, update, range(1, block))
        log_group = log_decay.sum(2).reshape(batch, groups, -1).transpose(1, 2)
        states = by_group.reshape(batch, groups, -1).transpose(1, 2).unsqueeze(-1)
        before, _ = carry(log_group, states, start.reshape(batch, -1, 1), _GROUPS)
        start = before.squeeze(-1).transpose(1, 2).reshape(batch, groups, width, channels)
    found = torch.stack([start, *_steps(start, decay, update, range(block - 1))], 2)
    return found.flatten(1, 2)[:, :chunks]
