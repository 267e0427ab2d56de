"""A causal language model of transformers with its state in buffers, as three functions of fixed shape."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from hycompile.models.causal_lm.state import Measure, Prompt, State, Stateless, Token


class CausalLM(nn.Module):
    """One text at a time for each row of the batch: ``prefill`` it, then ``decode`` token by token.

    Everything but the token mixers, routers and experts is transformers' own code, called with explicit positions,
    masks and an object of :mod:`hycompile.models.causal_lm.state` in place of its cache.

    Args:
        model: a ``...ForCausalLM`` after :func:`hycompile.models.causal_lm.adopt.adopt`.
        slots: tokens the key-value caches hold; a sliding window needs no more than its width. With full attention a
            text longer than this sees its last ``slots`` tokens.
        batch: rows of the state.
    """

    def __init__(self, model: Any, slots: int, batch: int = 1) -> None:
        super().__init__()
        self.model = model
        # Mamba-2 alone has a name of its own for it, and no attention to mask.
        self._pure = "cache_params" in inspect.signature(model.forward).parameters
        self.window: int | None = getattr(model.config, "sliding_window", None)
        self.state = State(slots if self.window is None else min(slots, self.window))
        with torch.no_grad():
            self._logits(torch.zeros(batch, 1, dtype=torch.int64), Measure(self.state))

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of every token, [batch, tokens, vocabulary]; the state is neither read nor written.

        Args:
            tokens: int64 [batch, tokens].
        """
        return self._logits(tokens, Stateless())

    def prefill(self, tokens: Tensor, count: Tensor) -> Tensor:
        """Start a text anew, whatever the state holds.

        Args:
            tokens: int64 [batch, tokens].
            count: how many of them count, from the first, int64 [1]; the others leave no trace.

        Returns:
            Logits of the last token that counts, [batch, 1, vocabulary].
        """
        logits = self._logits(tokens, Prompt(self.state, tokens.shape[1], count))
        return logits.index_select(1, count - 1)

    def decode(self, token: Tensor, position: Tensor) -> Tensor:
        """One token more.

        Args:
            token: int64 [batch, 1].
            position: how many tokens came before, int64 [1].

        Returns:
            Logits, [batch, 1, vocabulary].
        """
        # Slots fill in order, and once the last is written all are.
        seen = torch.arange(self.state.slots) <= position
        return self._run(token, position[None], seen[None, None, None], Token(self.state, position))

    def _logits(self, tokens: Tensor, run: Stateless) -> Tensor:
        """Logits of tokens that start a text."""
        positions = torch.arange(tokens.shape[1])
        distance = positions[:, None] - positions
        seen = distance >= 0
        if self.window is not None:
            seen = seen & (distance < self.window)
        return self._run(tokens, positions[None], seen[None, None], run)

    def _run(self, tokens: Tensor, positions: Tensor, seen: Tensor, run: Stateless) -> Tensor:
        """transformers' forward; ``seen`` [1, 1, tokens, keys] is True where a token attends to a key."""
        if self._pure:
            return self.model(input_ids=tokens, cache_params=run, use_cache=False).logits
        masks = {"full_attention": seen, "sliding_attention": seen, "linear_attention": None, "conv": None}
        outputs = self.model(
            input_ids=tokens,
            attention_mask=masks,
            position_ids=positions,
            past_key_values=run,
            use_cache=False,
        )
        return outputs.logits
