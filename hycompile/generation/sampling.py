"""Which token comes next: the likeliest one, or one drawn from the likelier ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen.

    Args:
        temperature: what logits are divided by before a token is drawn; 0 takes the likeliest, without chance.
        top_k: draw from that many of the likeliest only.
        top_p: draw from the fewest likeliest only that together have this probability.
        seed: of the draws: the same seed gives the same text wherever the logits are the same.

    Raises:
        ValueError: a value outside its range.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature {self.temperature}: not a number from 0; 0 takes the likeliest token")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k {self.top_k}: leaves no token to draw; give 1 or more")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p {self.top_p}: not a probability; give more than 0, at most 1")


class Sampler:
    """Chooses one token after the other; keeps the state of the draws."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._random = torch.Generator().manual_seed(sampling.seed)

    def choose(self, logits: Tensor) -> int:
        """The next token for logits [vocabulary]; of equally likely ones greedy choice takes the first."""
        sampling, logits = self._sampling, logits.double()
        if sampling.temperature == 0:
            return int(logits.argmax())
        # From the largest down, so that dividing by a tiny temperature cannot give infinity minus infinity.
        values, tokens = (logits - logits.max()).sort(descending=True, stable=True)
        probabilities = (values / sampling.temperature).softmax(0)[: sampling.top_k]
        if sampling.top_p is not None:
            share = probabilities / probabilities.sum()
            before = share.cumsum(0) - share
            probabilities = share[before < sampling.top_p]
        return int(tokens[torch.multinomial(probabilities, 1, generator=self._random)])
