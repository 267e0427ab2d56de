"""Test bed D: the trained SambaY language model on chapters it was not trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.accuracy.beds.bible import Corpus, load
from benchmarks.accuracy.exam import Run, Subject
from benchmarks.accuracy.records import Score
from hycompile.capture import capture
from hycompile.models.language.family import family
from hycompile.pipeline import Pipeline

LENGTH = 256
_BATCH = 8
# Exact, and what devices do before they quantise a language model; recurrences token by token would take minutes.
_LOWER = "normalise,share-memory,fold-multipliers,lower-scans"


class Page(NamedTuple):
    """What a model makes of one window: the surprise in nats at each token, and the token it thought likeliest."""

    nats: tuple[float, ...]
    likeliest: tuple[int, ...]


@dataclass(frozen=True)
class Reading:
    """Windows of text; each token is foretold from those before it in its window.

    Args:
        testbed: what they are called in tables.
        windows: int64 [count, LENGTH + 1].
        sizes: bytes of each token of the vocabulary.
    """

    testbed: str
    windows: Tensor
    sizes: Tensor

    def answers(self, run: Run, batch: int) -> list[Page]:
        """What a model makes of every window, ``batch`` of them at a time; the last batch is filled up."""
        found: list[Page] = []
        for part in self.windows.split(batch):
            missing = batch - len(part)
            given = torch.cat([part, part[-1:].expand(missing, -1)]) if missing else part
            logits = run(given[:, :-1])
            nats = F.cross_entropy(logits.double().mT, given[:, 1:], reduction="none")
            pages = zip(nats.tolist(), logits.argmax(-1).tolist(), strict=True)
            found += [Page(tuple(one), tuple(other)) for one, other in pages][: len(part)]
        return found

    def scores(self, answers: Sequence[Page], known: Sequence[Page], reference: Sequence[Page]) -> list[Score]:
        """Bits per byte, and the share of tokens at which the likeliest one is that of ``reference``, percent."""
        pairs = zip(answers, reference, strict=True)
        same = [a == b for page, other in pairs for a, b in zip(page.likeliest, other.likeliest, strict=True)]
        count = len(self.windows)
        bits, before = self._bits_per_byte(answers), self._bits_per_byte(known)
        figures = {"bits_per_byte": (before, bits), "agreement": (100.0, 100 * sum(same) / len(same))}
        return [
            Score.model_validate(
                {"testbed": self.testbed, "metric": metric, "float": one, "value": other, "samples": count}
            )
            for metric, (one, other) in figures.items()
        ]

    def _bits_per_byte(self, pages: Sequence[Page]) -> float:
        nats = math.fsum(nats for page in pages for nats in page.nats)
        return nats / math.log(2) / float(self.sizes[self.windows[:, 1:]].sum())


class LanguageBed:
    """One model with weights as they were trained: a seed is a draw of calibration windows."""

    name = "king-james"
    models = ("sambay-kjv",)
    cost = 2.0

    def prepare(self) -> None:
        load()

    def open(self, model: str, seed: int, calibration: int, images: int) -> Subject:
        text = load()
        drawn = _drawn(text, calibration, seed)
        program = capture(family.build(f"language/{model}").module, (drawn[0],), name=model)
        program, _ = Pipeline.parse(_LOWER)(program, prove=False)
        reading = Reading(self.name, _windows(text, images), torch.from_numpy(text.sizes))
        return Subject(program, _BATCH, drawn, (reading,))


def _drawn(text: Corpus, count: int, seed: int) -> tuple[Tensor, ...]:
    """Batches of windows at random places of the training text."""
    starts = np.random.default_rng(seed).integers(len(text.train) - LENGTH, size=max(count // _BATCH, 1) * _BATCH)
    windows = torch.from_numpy(np.stack([text.train[start : start + LENGTH] for start in starts]))
    return windows.split(_BATCH)


def _windows(text: Corpus, count: int) -> Tensor:
    """All that the test text has, or ``count`` of them, evenly spread; the end of it is too short for one."""
    windows = torch.from_numpy(text.test).unfold(0, LENGTH + 1, LENGTH)
    return windows[torch.linspace(0, len(windows) - 1, count).long()] if count else windows
