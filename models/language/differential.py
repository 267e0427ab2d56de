"""Differential attention (Ye et al. 2024, arXiv 2410.05258): one softmax minus a share of another."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hycompile.models.language.heads import Heads
from hycompile.models.language.norms import EPSILON


class DifferentialHeads(Heads):
    """``(1 - l0) RMSNorm(A1 V - l A2 V)`` with ``l = exp(lq1 lk1) - exp(lq2 lk2) + l0``.

    The first half of the heads gives A1, the second A2; values of both halves stand side by side. Models that
    interleave the two have the same heads in another order. ``A1 - l A2`` meets V once, not in four products.

    Args:
        head_width: of queries, keys and values.
        depth: index of the layer in its plan, for ``l0 = 0.8 - 0.6 exp(-0.3 depth)``.
    """

    def __init__(self, head_width: int, depth: int) -> None:
        super().__init__()
        self.scale = head_width**-0.5
        self.start = 0.8 - 0.6 * math.exp(-0.3 * depth)
        self.lambda_q = nn.Parameter(torch.empty(2, head_width))
        self.lambda_k = nn.Parameter(torch.empty(2, head_width))
        self.norm = nn.RMSNorm(2 * head_width, eps=EPSILON)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, seen: Tensor) -> Tensor:
        batch, heads, tokens, width = query.shape
        pairs, groups = key.shape[1] // 2, heads // key.shape[1]
        value = torch.cat([value[:, :pairs], value[:, pairs:]], -1)
        query = query * self.scale
        if tokens == 1:
            # Queries of a group of heads become rows beside each other, and no key is copied.
            queries = (query.reshape(batch, 2 * pairs, groups, width),)
        else:
            # A product for each query of a group: no key is copied, and rows stay tokens, so that slices can sink.
            queries = query.unflatten(1, (2 * pairs, groups)).unbind(2)
        # A small mask is filled and added: filling the scores of every head costs runtimes more than the softmax.
        hidden = torch.zeros_like(seen, dtype=query.dtype).masked_fill(~seen, -math.inf)
        y = torch.stack([self._attend(part, key, value, hidden) for part in queries], 2)
        return y.reshape(batch, heads // 2, tokens, -1).transpose(1, 2).flatten(2)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, hidden: Tensor) -> Tensor:
        """For one query of each group: [batch, pairs, rows, 2 x head width]."""
        attention = (query @ key.transpose(-2, -1) + hidden).softmax(-1)
        half = attention.shape[1] // 2
        y = (attention[:, :half] - self._share() * attention[:, half:]) @ value
        return self.norm(y) * (1 - self.start)

    def _share(self) -> Tensor:
        first, second = (self.lambda_q * self.lambda_k).sum(-1).exp().unbind()
        return first - second + self.start
