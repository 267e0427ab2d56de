"""Random inputs of the four operators, all kinds of recurrences among them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

LENGTHS = (1, 2, 5, 63, 64, 65, 130)
RECURRENCES = ("linear", "gated", "keyed", "delta", "gated delta", "keyed delta")
TOLERANCES = {torch.float32: 2e-5, torch.float64: 1e-12}
HEADS, KEYS, VALUES, BATCH = 2, 4, 3, 2


def linear_inputs(
    kind: str, tokens: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None, Tensor]:
    """Arguments of ``linear_recurrence``; the kind names decay (per head, or keyed) and delta rule."""
    generator = torch.Generator().manual_seed(tokens)

    def draw(*shape: int) -> Tensor:
        return torch.randn(BATCH, *shape, dtype=torch.float64, generator=generator)

    query, key, value = (
        draw(tokens, HEADS, KEYS),
        normalize(draw(tokens, HEADS, KEYS), dim=-1),
        draw(tokens, HEADS, VALUES),
    )
    log_decay = None
    if "gated" in kind or "keyed" in kind:
        log_decay = -draw(tokens, HEADS, *([KEYS] if "keyed" in kind else [])).abs() / 4
    beta = draw(tokens, HEADS).sigmoid() if "delta" in kind else None
    tensors = (query, key, value, log_decay, beta, draw(HEADS, KEYS, VALUES))
    return tuple(None if tensor is None else tensor.to(dtype) for tensor in tensors)  # type: ignore[return-value]


def scan_inputs(tokens: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Arguments of ``selective_scan``: 6 channels, state width 4."""
    generator = torch.Generator().manual_seed(tokens)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    x, dt = draw(BATCH, tokens, 6), draw(BATCH, tokens, 6).abs() / 4
    a, b, c = -draw(6, 4).exp(), draw(BATCH, tokens, 4), draw(BATCH, tokens, 4)
    x, dt, a, b, c, state = (tensor.to(dtype) for tensor in (x, dt, a, b, c, draw(BATCH, 6, 4)))
    return x, dt, a, b, c, state


def conv_inputs(
    tokens: int, dtype: torch.dtype, bias: bool, count: int | None
) -> tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor | None]:
    """Arguments of ``causal_conv``: 6 channels, 4 taps."""
    generator = torch.Generator().manual_seed(tokens)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator).to(dtype)

    offset = draw(6) if bias else None
    valid = None if count is None else torch.tensor([count])
    return draw(BATCH, tokens, 6), draw(6, 4), offset, draw(BATCH, 6, 3), valid


def cache_inputs(
    tokens: int, dtype: torch.dtype, start: int, count: int | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Arguments of ``cache_write``: 8 slots."""
    generator = torch.Generator().manual_seed(tokens)
    cache, new = (torch.randn(BATCH, HEADS, size, 4, generator=generator).to(dtype) for size in (8, tokens))
    return cache, new, torch.tensor([start]), None if count is None else torch.tensor([count])
