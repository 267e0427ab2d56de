"""Text after a prompt, piece by piece, with what each call of the model took."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hycompile.artifact import TOKENIZER, Artifact
from hycompile.errors import ArtifactError
from hycompile.generation.language_model import LanguageModel, signature
from hycompile.generation.sampling import Sampler, Sampling
from hycompile.generation.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor

    from hycompile.program import Program

MAX_TOKENS = 128


@dataclass
class Generation:
    """One text under way: iterate it once for its pieces. The other fields are complete when it is over.

    Args:
        pieces: text as it comes.
        prompt: tokens of the prompt.
        tokens: tokens generated, without the one that ended the text.
        ended_by: ``stop`` for a stop token, ``length`` for ``max_tokens``; None while it is under way.
        prefill_seconds: what the model took for the prompt.
        decode_seconds: what it took for each token after the first, which the prompt's logits give.
    """

    pieces: Iterator[str]
    prompt: tuple[int, ...]
    tokens: list[int] = field(default_factory=list[int])
    ended_by: Literal["stop", "length"] | None = None
    prefill_seconds: float = 0.0
    decode_seconds: list[float] = field(default_factory=list[float])

    def __iter__(self) -> Iterator[str]:
        return self.pieces

    @property
    def tokens_per_second(self) -> float | None:
        """Of decoding: neither the prompt nor sampling counts. None where nothing was decoded."""
        spent = sum(self.decode_seconds)
        return len(self.decode_seconds) / spent if spent else None


class Generator:
    """Continues prompts with a language model, one text at a time.

    Args:
        model: its methods over the state of a session.
        tokenizer: of that model.

    Raises:
        ArtifactError: the tokenizer has tokens that the model does not know.
    """

    def __init__(self, model: LanguageModel, tokenizer: Tokenizer) -> None:
        if tokenizer.vocabulary > model.vocabulary:
            raise ArtifactError(
                f"a tokenizer of {tokenizer.vocabulary} tokens",
                f"the model knows {model.vocabulary}",
                "give the tokenizer that the model was trained with",
            )
        self.model, self.tokenizer = model, tokenizer

    @classmethod
    def open(cls, artifact: Artifact, tokenizer: Path | None = None, threads: int | None = None) -> Generator:
        """Generate with an artifact in this process.

        Args:
            artifact: what ``lower`` or ``Artifact.load`` gave.
            tokenizer: a ``tokenizer.json``; by default the one that the artifact carries.
            threads: intra-operator threads.

        Raises:
            ArtifactError: no language model, no tokenizer, or one of another vocabulary.
            Unsupported: the artifact cannot run here.
        """
        from hycompile.device import open_session

        name = f"{artifact.folder}"
        # Before what is slow, and before asking for the tokenizer of what is no language model.
        signature(artifact.manifest.methods, name)
        if tokenizer is None and TOKENIZER not in artifact.manifest.files:
            raise _no_tokenizer(name)
        found = Tokenizer.read(tokenizer or artifact.file(TOKENIZER))
        return cls(LanguageModel(open_session(artifact, threads), artifact.manifest.methods, name), found)

    @classmethod
    def eager(cls, program: Program, tokenizer: Path | None = None) -> Generator:
        """Generate with a Program in PyTorch, uncompiled.

        Raises:
            ArtifactError: as :meth:`open`.
        """
        from hycompile.generation.eager import EagerSession

        if tokenizer is None and program.tokenizer is None:
            raise _no_tokenizer(program.name)
        found = Tokenizer.read(tokenizer) if tokenizer else Tokenizer(program.tokenizer or b"", program.name)
        specs = {name: method.spec() for name, method in program.methods.items()}
        return cls(LanguageModel(EagerSession(program), specs, program.name), found)

    def generate(
        self,
        prompt: str,
        *,
        max_tokens: int = MAX_TOKENS,
        sampling: Sampling | None = None,
        stop: Collection[int] | None = None,
    ) -> Generation:
        """Continue a prompt; the model runs while the result is iterated.

        Nothing ends a text but a stop token and ``max_tokens``: what a model sees of a text longer than its caches
        is the model's own affair.

        Args:
            prompt: the text to continue.
            max_tokens: generate at most so many.
            sampling: how tokens are chosen; the likeliest by default.
            stop: tokens that end the text and are no part of it; the tokenizer's special tokens by default.

        Raises:
            Unsupported: while iterated: a prompt without tokens, or one longer than the model takes.
            ArtifactError: the tokenizer fails; while iterated: the model does.
            ValueError: ``max_tokens`` below 1.
        """
        if max_tokens < 1:
            raise ValueError(f"max_tokens {max_tokens}: there is nothing to generate; give 1 or more")
        tokens = self.tokenizer.encode(prompt)
        generation = Generation(iter(()), tuple(tokens))
        ends = self.tokenizer.special if stop is None else frozenset(stop)
        generation.pieces = self._pieces(generation, Sampler(sampling or Sampling()), ends, max_tokens)
        return generation

    def _pieces(self, generation: Generation, sampler: Sampler, ends: frozenset[int], most: int) -> Iterator[str]:
        text = self.tokenizer.stream(generation.prompt)
        logits, generation.prefill_seconds = _timed(lambda: self.model.prompt(generation.prompt))
        while True:
            token = sampler.choose(logits)
            if token in ends:
                generation.ended_by = "stop"
                break
            generation.tokens.append(token)
            if piece := text.push(token):
                yield piece
            if len(generation.tokens) >= most:
                generation.ended_by = "length"
                break
            logits, seconds = _timed(lambda token=token: self.model.step(token))
            generation.decode_seconds.append(seconds)
        if piece := text.rest():
            yield piece


def _timed(call: Callable[[], Tensor]) -> tuple[Tensor, float]:
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start


def _no_tokenizer(name: str) -> ArtifactError:
    return ArtifactError(name, "carries no tokenizer", "give one: --tokenizer PATH, or tokenizer=PATH in Python")
