"""What every token mixer is: a prompt at once, or one token, with the state it declares going in and coming out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

State = Mapping[str, Tensor]


@dataclass
class Span:
    """The tokens of one call.

    Args:
        tokens: how many come.
        start: position of the first, int64 [1].
        count: how many of them count, from the first, int64 [1]; None for all. The others are padding: they leave no
            trace in the state, and what is computed for them means nothing.
        fresh: the text starts here: ``start`` is 0 and every state is zero.
    """

    tokens: int
    start: Tensor
    count: Tensor | None = None
    fresh: bool = False

    def positions(self) -> Tensor:
        """Position of every token, int64 [tokens]."""
        return self.start + torch.arange(self.tokens, device=self.start.device)

    def keep(self, x: Tensor) -> Tensor:
        """``x`` [batch, tokens, ...] with zeros for padding."""
        if self.count is None:
            return x
        real = torch.arange(self.tokens, device=x.device) < self.count
        return x * real.reshape(1, -1, *[1] * (x.ndim - 2)).to(x.dtype)

    def among_themselves(self, window: int | None) -> Tensor:
        """Which of the call's tokens each of them attends to, bool [tokens, tokens].

        Nobody that counts sees padding, for padding comes last.
        """
        index = torch.arange(self.tokens, device=self.start.device)
        distance = index[:, None] - index
        seen = distance >= 0
        return seen if window is None else seen & (distance < window)

    def of_the_ring(self, slots: int, window: int | None) -> Tensor:
        """Which slots of a ring each token attends to before the call's own tokens are written, bool [tokens, slots].

        Slot ``s`` holds the newest position before ``start`` that is ``s`` modulo ``slots``, if there is one.
        """
        slot = torch.arange(slots, device=self.start.device)
        # Operands of a remainder stay positive: runtimes do not agree on its sign.
        held = self.start - 1 - (self.start + slots - 1 - slot) % slots
        distance = self.positions()[:, None] - held
        return (held >= 0) & (distance < (slots if window is None else window))

    def filled(self, slots: int) -> Tensor:
        """Which slots of a ring hold something once the call's one token is written, bool [1, slots]."""
        return (torch.arange(slots, device=self.start.device) <= self.start)[None]


@dataclass
class Shared:
    """What a layer of this call gives to the layers after it.

    Args:
        memory: readout of a recurrence before its gate, [batch, tokens, width].
        keys: keys to attend to, [batch, heads, keys, width].
        values: like ``keys``.
        seen: which keys each token attends to, bool [tokens, keys].
    """

    memory: Tensor | None = None
    keys: Tensor | None = None
    values: Tensor | None = None
    seen: Tensor | None = None


class Mixer(nn.Module, ABC):
    """Mixes tokens. A layer adds its result to the residual stream."""

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape, without the batch, of each state; zero at the start of a text."""
        return {}

    @abstractmethod
    def prefill(self, x: Tensor, state: State, span: Span, shared: Shared) -> tuple[Tensor, State]:
        """Any number of tokens.

        Args:
            x: [batch, tokens, width].
            state: before the first token.
            span: where the tokens stand.
            shared: read, or written for later layers.

        Returns:
            A value like ``x``, and the state after the last token that counts.
        """

    def step(self, x: Tensor, state: State, span: Span, shared: Shared) -> tuple[Tensor, State]:
        """One token, [batch, 1, width]; the same as ``prefill`` where a mixer has no better form for it."""
        return self.prefill(x, state, span, shared)
