"""Test bed B: six small vision hybrids, trained three times on each of two data sets, on all of its test images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from benchmarks.accuracy.exam import Exam, Subject
from benchmarks.accuracy.records import Metric
from hycompile.capture import capture
from hycompile.models.small_vision.family import NETWORKS, Trained, family
from hycompile.models.vision_data.dataset import Split, load, network_input

_BATCH = 64


@dataclass(frozen=True)
class SmallVisionBed:
    """The networks of one data set; each seed is a training of its own, calibrated on a draw of its own."""

    name: str
    cost: float = 1.0

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(NETWORKS)

    def prepare(self) -> None:
        load(self.name)

    def open(self, model: str, seed: int, calibration: int, images: int) -> Subject:
        data = load(self.name)
        drawn = network_input(data.calibration(calibration, seed).images)
        module = family.build(Trained(model, self.name, seed).name).module
        program = capture(module, (drawn[:_BATCH],), name=f"{model}-{self.name}")
        test = _some(data.test, images)
        exam = Exam(
            testbed=self.name,
            count=len(test),
            inputs=lambda start, stop: network_input(test.images[start:stop]),
            read=_classes,
            mark=lambda answers: _top1(answers, test.labels),
        )
        # A last batch that is not full would need a graph of its own: it is left out.
        batches = tuple(drawn[start : start + _BATCH] for start in range(0, len(drawn) - _BATCH + 1, _BATCH))
        return Subject(program, _BATCH, batches, (exam,))


def _some(split: Split, images: int) -> Split:
    """Images drawn from all classes: they are sorted by class in one of the sets."""
    if not images:
        return split
    chosen = np.random.default_rng(0).permutation(len(split))[:images]
    return Split(split.images[chosen], split.labels[chosen])


def _classes(outputs: Tensor) -> list[int]:
    return outputs.argmax(-1).tolist()


def _top1(answers: Sequence[int], labels: np.ndarray) -> Mapping[Metric, float]:
    return {"top1": 100 * float(np.mean(np.asarray(answers) == labels))}
