"""A decoder built from a plan, with the state of one text in buffers, as functions of fixed shape."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hycompile.models.language.layers import ResidualUnit, norm
from hycompile.models.language.mixer import Shared, Span
from hycompile.models.language.plan import Plan


class Decoder(nn.Module):
    """One text at a time: ``prefill`` it, or ``extend`` it in chunks and ``finish``, then ``decode`` token by token.

    State stands in persistent buffers ``state_LAYER_NAME``, batch 1, zero at first; weights of the embedding and the
    head are one where the plan says so.

    Args:
        plan: layers and sizes.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        self.embed = nn.Embedding(plan.vocabulary, plan.width)
        self.layers = nn.ModuleList(ResidualUnit(plan, layer) for layer in plan.layers)
        self.norm = norm(plan)
        self.head = nn.Linear(plan.width, plan.vocabulary, bias=False)
        if plan.tied:
            self.head.weight = self.embed.weight
        self._names: list[list[str]] = []
        for index, layer in enumerate(self._units()):
            shapes = layer.mixer.state_shapes()
            self._names.append(list(shapes))
            for name, shape in shapes.items():
                self.register_buffer(f"state_{index}_{name}", torch.zeros(1, *shape))

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of every token, [batch, tokens, vocabulary]; the state is neither read nor written.

        Args:
            tokens: int64 [batch, tokens].
        """
        x = self.embed(tokens)
        start = torch.zeros(1, dtype=torch.int64, device=tokens.device)
        span, shared = Span(tokens.shape[1], start, fresh=True), Shared()
        for index, layer in enumerate(self._units()):
            zeros = {name: x.new_zeros(x.shape[0], *held.shape[1:]) for name, held in self._state(index).items()}
            x, _ = layer(x, zeros, span, shared, False)
        return self.head(self.norm(x))

    def prefill(self, tokens: Tensor, count: Tensor) -> Tensor:
        """Start a text anew, whatever the state holds.

        Args:
            tokens: int64 [1, tokens].
            count: how many of them count, from the first, int64 [1]; the others leave no trace.

        Returns:
            Logits of the last token that counts, [1, 1, vocabulary].
        """
        x = self._run(tokens, Span(tokens.shape[1], torch.zeros_like(count), count, fresh=True))
        return self.head(self.norm(x)).index_select(1, count - 1)

    def extend(self, tokens: Tensor, start: Tensor, count: Tensor) -> Tensor:
        """One chunk of a prompt that is neither its first, which is a prefill of its own, nor its last.

        Args:
            tokens: int64 [1, tokens].
            start: how many tokens came before, int64 [1].
            count: how many of these count, from the first, int64 [1].

        Returns:
            How many tokens have come, int64 [1].
        """
        self._run(tokens, Span(tokens.shape[1], start, count))
        return start + count

    def finish(self, tokens: Tensor, start: Tensor, count: Tensor) -> Tensor:
        """The last chunk of a prompt; as :meth:`extend`, but returns the logits of the last token that counts."""
        x = self._run(tokens, Span(tokens.shape[1], start, count))
        return self.head(self.norm(x)).index_select(1, count - 1)

    def decode(self, token: Tensor, position: Tensor) -> Tensor:
        """One token more.

        Args:
            token: int64 [1, 1].
            position: how many tokens came before, int64 [1].

        Returns:
            Logits, [1, 1, vocabulary].
        """
        return self.head(self.norm(self._run(token, Span(1, position), step=True)))

    def _run(self, tokens: Tensor, span: Span, step: bool = False) -> Tensor:
        """The residual stream after all layers, [1, tokens, width]; leaves the state of the next call."""
        x, shared = self.embed(tokens), Shared()
        for index, layer in enumerate(self._units()):
            held = self._state(index)
            before = {name: torch.zeros_like(value) for name, value in held.items()} if span.fresh else held
            x, after = layer(x, before, span, shared, step)
            for name, value in after.items():
                held[name].copy_(value)
        return x

    def _state(self, index: int) -> dict[str, Tensor]:
        return {name: self.get_buffer(f"state_{index}_{name}") for name in self._names[index]}

    def _units(self) -> list[ResidualUnit]:
        return [layer for layer in self.layers if isinstance(layer, ResidualUnit)]
