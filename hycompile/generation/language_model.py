"""The methods of a language model as two calls: take a prompt, take a token more; each gives the next one's logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hycompile.errors import ArtifactError, Unsupported

if TYPE_CHECKING:
    from torch import Tensor

    from hycompile.artifact import MethodSpec
    from hycompile.backend import Session

_INPUTS = {"prefill": 2, "extend": 3, "finish": 3, "decode": 2}
_WAY_OUT = (
    "generate with a model of the families causal-lm or language, or one with the same methods (docs/language.md)"
)


class LanguageModel:
    """One text at a time over the state of a session.

    ``prefill(tokens [1, n], count [1])`` starts a text, ``decode(token [1, 1], position [1])`` goes on. Where there are
    ``extend`` and ``finish(tokens [1, n], start [1], count [1])``, a prompt longer than one chunk is prefilled,
    extended and finished. All but ``extend`` return logits [1, 1, vocabulary] of the last token that counts.

    Args:
        session: any backend's, or an :class:`hycompile.generation.eager.EagerSession`.
        methods: their flat signatures, from the artifact's manifest or ``Method.spec()``.
        name: what errors call the model.

    Raises:
        ArtifactError: the methods are not those of a language model.
    """

    def __init__(self, session: Session, methods: Mapping[str, MethodSpec], name: str) -> None:
        self._session, self._name = session, name
        self._sizes, self.vocabulary = signature(methods, name)
        self.position = 0

    @property
    def longest_prompt(self) -> int | None:
        """Tokens a prompt may have; None where there is no limit."""
        first, last = self._sizes["prefill"], self._sizes.get("finish")
        if first is None or (last is not None and "extend" in self._sizes):
            return None
        return first + (last or 0)

    def prompt(self, tokens: Sequence[int]) -> Tensor:
        """Start a text anew.

        Returns:
            Logits [vocabulary] of the token after it.

        Raises:
            Unsupported: no tokens, or more than the model's methods take.
        """
        if not tokens:
            raise Unsupported("a prompt without tokens", "there is nothing to continue", "give some text")
        longest = self.longest_prompt
        if longest is not None and len(tokens) > longest:
            raise Unsupported(
                f"a prompt of {len(tokens)} tokens",
                f"{self._name} takes {longest}, and lacks the methods extend and finish to take more in chunks",
                f"shorten it to {longest} tokens",
            )
        first = self._sizes["prefill"] or len(tokens)
        chunk, rest = tokens[:first], tokens[first:]
        outputs = self._take("prefill", chunk)
        self.position = len(chunk)
        while rest:
            last = self._sizes["finish"] or len(rest)
            method = "finish" if len(rest) <= last else "extend"
            size = self._sizes[method] or last
            chunk, rest = rest[:size], rest[size:]
            outputs = self._take(method, chunk, self.position)
            self.position += len(chunk)
        return self._logits(outputs)

    def step(self, token: int) -> Tensor:
        """Take one token more; logits [vocabulary] of the one after it."""
        import torch

        outputs = self._session.run((torch.tensor([[token]]), torch.tensor([self.position])), "decode")
        self.position += 1
        return self._logits(outputs)

    def _take(self, method: str, tokens: Sequence[int], *start: int) -> tuple[Tensor, ...]:
        """Run a method on a chunk filled up with zeros, which leave no trace."""
        import torch

        size = self._sizes[method] or len(tokens)
        padded = torch.zeros(1, size, dtype=torch.int64)
        padded[0, : len(tokens)] = torch.tensor(tokens)
        return self._session.run((padded, *(torch.tensor([value]) for value in (*start, len(tokens)))), method)

    def _logits(self, outputs: tuple[Tensor, ...]) -> Tensor:
        logits = outputs[0].reshape(-1)
        if logits.isnan().any():
            raise ArtifactError(
                f"logits of token {self.position}",
                f"{self._name} computed what is no number",
                "build it in fp32, or prove it again with `hycompile build`",
            )
        return logits


def signature(methods: Mapping[str, MethodSpec], name: str) -> tuple[dict[str, int | None], int]:
    """How many tokens each method takes at once (None for any number), and the size of the vocabulary.

    Raises:
        ArtifactError: the methods are not those of a language model.
    """
    sizes = {method: _chunk(name, method, methods[method]) for method in _INPUTS if method in methods}
    if not {"prefill", "decode"} <= sizes.keys():
        reason = f"not a language model: its methods are {', '.join(methods)}, not prefill and decode"
        raise ArtifactError(name, reason, _WAY_OUT)
    return sizes, _vocabulary(name, methods["decode"])


def _chunk(name: str, method: str, spec: MethodSpec) -> int | None:
    shapes = [value.shape for value in spec.inputs]
    size = shapes[0][-1] if shapes and shapes[0] else 0
    wanted = [(1, 1 if method == "decode" else size)] + [(1,)] * (_INPUTS[method] - 1)
    if shapes != wanted or any(value.dtype != "int64" for value in spec.inputs) or not spec.outputs:
        given = ", ".join(f"{value.name} {value.dtype}{list(value.shape)}" for value in spec.inputs)
        raise ArtifactError(name, f"not a language model: its method {method} takes {given or 'nothing'}", _WAY_OUT)
    return size if isinstance(size, int) else None


def _vocabulary(name: str, decode: MethodSpec) -> int:
    *ones, size = decode.outputs[0].shape or (0,)
    if ones != [1, 1] or not isinstance(size, int):
        reason = (
            f"not a language model: its method decode returns {list(decode.outputs[0].shape)}, not [1, 1, vocabulary]"
        )
        raise ArtifactError(name, reason, _WAY_OUT)
    return size
