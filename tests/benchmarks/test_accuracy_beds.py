"""The accuracy benchmark's test beds: what is counted as an error, and what networks are asked."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks.accuracy.beds import small_vision, text_lines
from benchmarks.accuracy.beds.edits import edits
from benchmarks.accuracy.beds.small_vision import SmallVisionBed
from benchmarks.accuracy.exam import Exam
from hycompile.models.text_lines.dataset import Lines
from hycompile.models.vision_data.dataset import Split, VisionSet

SAID = ("kitten", "ab", "")


@pytest.mark.parametrize(
    ("first", "second", "least"),
    [("", "", 0), ("abc", "abc", 0), ("abc", "", 3), ("kitten", "sitting", 3), ("flaw", "lawn", 2), ("ab", "ba", 2)],
)
def test_edits(first: str, second: str, least: int) -> None:
    assert edits(first, second) == edits(second, first) == least


def test_lines_are_marked_by_characters_and_as_a_whole() -> None:
    image = np.zeros((3, 48, 320), np.uint8)
    lines = Lines(image, np.array([320, 100, 50]), SAID, ("", "", ""))
    exam = text_lines._exam(lines, "clean", 3, ["", *"abc"])  # pyright: ignore[reportPrivateUsage]
    marks = exam.mark(["sitting", "ab", ""])
    assert marks["cer"] == pytest.approx(100 * 3 / 8)
    assert marks["line_accuracy"] == pytest.approx(100 * 2 / 3)
    assert exam.inputs(1, 3).shape == (2, 3, 48, 320)
    logits = torch.nn.functional.one_hot(torch.tensor([[1, 1, 0, 1, 2], [0, 3, 3, 0, 0]]), 4).float()
    assert exam.read(logits) == ["aab", "c"]


def test_every_seed_calibrates_on_a_draw_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.arange(200, dtype=np.uint8)[:, None, None].repeat(28, 1).repeat(28, 2)
    train, test = Split(images, np.arange(200)), Split(images[:50], np.arange(50))
    monkeypatch.setattr(small_vision, "load", lambda name: VisionSet(name, (), train, test))
    monkeypatch.setattr(small_vision, "capture", lambda module, args, name: SimpleNamespace(name=name))
    opened = [SmallVisionBed("fashion-mnist").open("repvit", seed, 128, images) for seed, images in ((0, 0), (1, 20))]
    assert [len(subject.calibration) for subject in opened] == [2, 2]
    assert not torch.equal(opened[0].calibration[0], opened[1].calibration[0])
    exams = [exam for subject in opened for exam in subject.exams if isinstance(exam, Exam)]
    assert [exam.count for exam in exams] == [50, 20]
    exam = exams[1]
    shown = ((exam.inputs(0, 20)[:, 0, 16, 16] + 1) * 127.5).round().int().tolist()
    assert exam.mark(shown) == {"top1": 100.0}
    assert exam.mark([*shown[:15], *(label + 1 for label in shown[15:])]) == {"top1": 75.0}
