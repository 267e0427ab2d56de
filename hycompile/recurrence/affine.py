"""Matrix-valued transitions: states carried by affine maps, and the triangular inverse of the delta rule."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def carry_affine(transition: Tensor, update: Tensor, state: Tensor, doublings: int) -> tuple[Tensor, Tensor]:
    """The state before every segment, and after the last: ``S_{n+1} = A_n S_n + B_n`` with matrices ``A_n``.

    The maps are composed by doubling (Hillis and Steele 1986), in a multiple of ``doublings`` steps, so that the graph
    is the same for 2 to ``2^doublings`` segments; what reaches beyond the first segment composes with the identity.

    Args:
        transition: ``A``, [rows, segments, key width, key width].
        update: ``B``, [rows, segments, key width, value width].
        state: ``S_0``, [rows, key width, value width].
        doublings: at least 1.

    Returns:
        ``S_n`` for every n, shaped like ``update``, and the last state like ``state``.
    """
    rows, segments, keys, values = update.shape
    maps = torch.cat([transition, update], -1)
    identity = torch.eye(keys, keys + values, dtype=maps.dtype, device=maps.device)
    is_update = (torch.arange(keys + values, device=maps.device) >= keys).to(maps.dtype)
    for doubling in range(doublings * math.ceil(math.log2(segments) / doublings)):
        neutral = identity.expand(rows, 2**doubling, keys, keys + values)
        earlier = torch.cat([neutral, maps], 1)[:, :segments]
        maps = maps[..., :keys] @ earlier + maps * is_update
    after = maps[..., :keys] @ state.unsqueeze(1) + maps[..., keys:]
    before = torch.cat([state.unsqueeze(1), after], 1)
    return before[:, :segments], before[:, segments]


def unit_lower_inverse(below: Tensor) -> Tensor:
    """``(I + A)^-1`` for a strictly lower triangular ``A``, [..., size, size].

    Inverses of diagonal blocks are joined pair by pair: ``[[P, 0], [A, Q]]`` has the inverse
    ``[[P', 0], [-Q' A P', Q']]`` with ``P' = P^-1``. As many matrix products as the power series
    ``prod(I + (-A)^(2^i))``, whose terms grow like binomials where keys repeat: 10^17 for 64 equal keys.
    """
    size = below.shape[-1]
    row = torch.arange(size, device=below.device)
    inverse = torch.eye(size, dtype=below.dtype, device=below.device)
    width = 1
    while width < size:
        joined = row[:, None] // (2 * width) == row[None, :] // (2 * width)
        apart = row[:, None] // width != row[None, :] // width
        corner = below * (joined & apart).to(below.dtype)
        inverse = inverse - (corner if width == 1 else inverse @ corner @ inverse)
        width *= 2
    return inverse
