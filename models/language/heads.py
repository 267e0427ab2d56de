"""Softmax attention over grouped heads."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn
from torch.nn import functional as F


class Heads(nn.Module, ABC):
    """What an attention does with queries, keys and values."""

    @abstractmethod
    def forward(self, query: Tensor, key: Tensor, value: Tensor, seen: Tensor) -> Tensor:
        """Attend.

        Args:
            query: [batch, heads, tokens, head width].
            key: [batch, key heads, keys, head width]; each is read by ``heads / key heads`` consecutive queries.
            value: like ``key``.
            seen: which keys each token attends to, bool [..., tokens, keys]; at least one each.

        Returns:
            [batch, tokens, heads x head width].
        """


class SoftmaxHeads(Heads):
    """``softmax(q k / sqrt(width)) v``."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, seen: Tensor) -> Tensor:
        batch, heads, tokens, width = query.shape
        groups = heads // key.shape[1]
        if tokens == 1:
            # One token: queries of a group become rows, and no key is copied.
            query = query.reshape(batch, key.shape[1], groups, width)
        else:
            key, value = repeat(key, groups), repeat(value, groups)
        y = F.scaled_dot_product_attention(query, key, value, seen)
        return y.reshape(batch, heads, tokens, width).transpose(1, 2).flatten(2)


def repeat(x: Tensor, groups: int) -> Tensor:
    """Every head ``groups`` times in a row: [batch, heads, keys, width] to [batch, heads x groups, keys, width]."""
    return x if groups == 1 else x.unsqueeze(2).expand(-1, -1, groups, -1, -1).flatten(1, 2)
