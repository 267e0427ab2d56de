"""Test bed A: the published PP-OCRv6 recogniser on rendered lines of text, at three difficulties."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from torch import Tensor

from benchmarks.accuracy.beds.edits import edits
from benchmarks.accuracy.exam import Exam, Subject
from benchmarks.accuracy.records import Metric
from hycompile.capture import capture
from hycompile.models.ocr_text import decode, read_dictionary
from hycompile.models.ppocr import DICTIONARY, family, files
from hycompile.models.text_lines.dataset import Lines, load, network_input
from hycompile.models.text_lines.difficulty import DIFFICULTIES

_BATCH = 16


class TextLinesBed:
    """One network, whose weights are as published: a seed is a draw of calibration lines, of all difficulties."""

    name = "ocr"
    models = ("ppocrv6_rec_small",)
    cost = 8.0

    def prepare(self) -> None:
        files()
        load()

    def open(self, model: str, seed: int, calibration: int, images: int) -> Subject:
        data = load()
        drawn = network_input(data.drawn(calibration, seed))
        program = capture(family.build(model).module, (drawn[:_BATCH],), name=model)
        batches = tuple(drawn[start : start + _BATCH] for start in range(0, len(drawn) - _BATCH + 1, _BATCH))
        characters = read_dictionary(files(DICTIONARY) / DICTIONARY)
        count = min(images or len(data.test), len(data.test))
        exams = tuple(_exam(data.test, difficulty, count, characters) for difficulty in DIFFICULTIES)
        return Subject(program, _BATCH, batches, exams)


def _exam(lines: Lines, difficulty: str, count: int, characters: list[str]) -> Exam:
    def inputs(start: int, stop: int) -> Tensor:
        return network_input([lines.seen(index, difficulty) for index in range(start, stop)])

    return Exam(
        testbed=f"ocr-{difficulty}",
        count=count,
        inputs=inputs,
        read=partial(_texts, characters=characters),
        mark=partial(_errors, said=lines.texts[:count]),
    )


def _texts(logits: Tensor, characters: list[str]) -> list[str]:
    return [decode(line, characters) for line in logits.split(1)]


def _errors(answers: Sequence[str], said: Sequence[str]) -> Mapping[Metric, float]:
    """Characters to change for each that was said, and lines without any, in percent."""
    wrong = [edits(answer, text) for answer, text in zip(answers, said, strict=True)]
    rate = 100 * sum(wrong) / sum(map(len, said))
    return {"cer": rate, "line_accuracy": 100 * float(np.mean([not errors for errors in wrong]))}
