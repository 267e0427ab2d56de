"""A test bed as the benchmark sees it: a network in float, calibration data, and questions with known answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from benchmarks.accuracy.records import Metric, Score
from hycompile.program import Program

# A batch as the network takes it to its first output.
Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Exam:
    """Labelled inputs.

    Args:
        testbed: what they are called in tables.
        count: how many.
        inputs: those from one index to below another, as the network takes them.
        read: the answers in a batch of outputs, one a row.
        mark: the answers to all inputs in figures.
    """

    testbed: str
    count: int
    inputs: Callable[[int, int], Tensor]
    read: Callable[[Tensor], list[Any]]
    mark: Callable[[Sequence[Any]], Mapping[Metric, float]]

    def answers(self, run: Run, batch: int) -> list[Any]:
        """What a network answers, asked ``batch`` inputs at a time; the last batch is filled up."""
        found: list[Any] = []
        for start in range(0, self.count, batch):
            given = self.inputs(start, min(start + batch, self.count))
            missing = batch - len(given)
            if missing:
                given = torch.cat([given, given[-1:].expand(missing, *given.shape[1:])])
            found += self.read(run(given))[: batch - missing]
        return found

    def scores(self, answers: Sequence[Any], known: Sequence[Any], reference: Sequence[Any]) -> list[Score]:
        """Figures of ``answers`` beside those of the float network, ``known``.

        ``agreement`` is the share of answers that are those of ``reference``, percent.
        """
        marks, beside = self.mark(answers), self.mark(known)
        same = 100 * sum(a == b for a, b in zip(answers, reference, strict=True)) / self.count
        figures: list[tuple[Metric, float, float]] = [
            *((metric, beside[metric], value) for metric, value in marks.items()),
            ("agreement", 100.0, same),
        ]
        return [
            Score(testbed=self.testbed, metric=metric, reference=before, value=value, samples=self.count)
            for metric, before, value in figures
        ]


class Examination(Protocol):
    """What a network is asked, and how well it answers."""

    def answers(self, run: Run, batch: int) -> list[Any]: ...

    def scores(self, answers: Sequence[Any], known: Sequence[Any], reference: Sequence[Any]) -> list[Score]: ...


@dataclass(frozen=True)
class Subject:
    """A network of a test bed.

    Args:
        program: in float, captured at the batch size it is always run with.
        batch: that size.
        calibration: batches of it.
        exams: on what it is examined.
    """

    program: Program
    batch: int
    calibration: tuple[Tensor, ...]
    exams: tuple[Examination, ...]


class Bed(Protocol):
    """Networks that share calibration and test data."""

    @property
    def name(self) -> str: ...

    @property
    def models(self) -> tuple[str, ...]: ...

    @property
    def cost(self) -> float:
        """What a cell takes, in about minutes of one processor; by it processes share the work."""
        ...

    def prepare(self) -> None:
        """Fetch what ``open`` reads, so that it needs no network."""
        ...

    def open(self, model: str, seed: int, calibration: int, images: int) -> Subject:
        """A network; ``seed`` chooses weights, where there are several, and the draw of calibration data.

        Args:
            model: one of ``models``.
            seed: 0, 1 or 2.
            calibration: how many inputs to calibrate on.
            images: how many to test on; 0 for all.
        """
        ...
