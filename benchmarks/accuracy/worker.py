"""The process that quantises one network by several methods and examines what comes out."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TextIO

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from benchmarks.accuracy.beds import BEDS
from benchmarks.accuracy.exam import Run, Subject
from benchmarks.accuracy.methods import BEFORE
from benchmarks.accuracy.quick import quick
from benchmarks.accuracy.records import SIMULATION, Asked, Cell, Outcome, decode, encode
from benchmarks.accuracy.runners import open_artifact
from benchmarks.exports import one_line
from benchmarks.messages import Job
from hycompile.parity import execute
from hycompile.pipeline import Pipeline
from hycompile.program import Method, Program
from hycompile.quantisation.calibration import calibration


class Settings(BaseModel):
    """What a run tells its workers: passes by method, and how much data."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    asked: dict[str, Asked]

    def of(self, cell: Cell) -> Asked:
        """What is asked of a cell."""
        return self.asked[key(cell)]


def key(cell: Cell) -> str:
    """Cells of one method and the same bits are asked the same."""
    return f"{cell.method} {cell.weight_bits} {cell.activation_bits}"


def job(settings: Settings) -> Job[Cell, Outcome]:
    """Measuring cells that share a network."""
    return Job("benchmarks.accuracy.worker", encode, decode, Outcome, _lost, (settings.model_dump_json(),))


def _lost(reason: str) -> Outcome:
    return Outcome(status="failed", reason=reason)


def work(cells: Sequence[Cell], settings: Settings, pipe: TextIO) -> None:
    """Load the network, examine it in float, then cell by cell."""
    task, asked = job(settings), settings.of(cells[0])
    task.say_begun(pipe, cells[0])
    torch.set_num_threads(1)
    subject = BEDS[cells[0].bed].open(cells[0].model, cells[0].seed, asked.calibration, asked.images)
    subject = replace(subject, program=Pipeline.parse(BEFORE)(subject.program, prove=False)[0])
    known = _answers(subject, simulation(subject.program))
    for cell in cells:
        task.say_begun(pipe, cell)
        try:
            outcome = examine(cell, settings.of(cell).pipeline, subject, known)
        except Exception as error:  # noqa: BLE001 - whatever a method raises is its finding
            outcome = Outcome(status="failed", reason=one_line(error))
        task.say_done(pipe, outcome)


def examine(cell: Cell, pipeline: str, subject: Subject, known: Sequence[list[Any]]) -> Outcome:
    """Quantise and go through the exams.

    Args:
        cell: what is measured.
        pipeline: text of the passes; those that come before every method have been run.
        subject: the network as they left it.
        known: its answers to each exam.
    """
    start = time.process_time()
    steps = Pipeline.parse(pipeline).passes[len(Pipeline.parse(BEFORE).passes) :]
    given = replace(subject.program, calibration=calibration(subject.program, subject.calibration))
    # The tests of the passes prove them; a twin in float64 would only take time here.
    quantised, _ = Pipeline(steps)(given, prove=False)
    done = time.process_time()
    run, reference = simulation(quantised), known
    if cell.runner != SIMULATION:
        # An artifact is held to the simulation of the same plan.
        reference = _answers(subject, run)
        run = open_artifact(quantised, cell.runner)
    begun = time.process_time()
    answers = _answers(subject, run)
    seconds = time.process_time() - begun
    plan = quantised.plan
    assert plan is not None
    assert plan.measured is not None
    scores = [
        score
        for exam, found, before, held in zip(subject.exams, answers, known, reference, strict=True)
        for score in exam.scores(found, before, held)
    ]
    return Outcome(
        status="measured",
        scores=tuple(scores),
        sqnr=plan.measured.output_sqnr,
        quantise_seconds=done - start,
        answer_seconds=seconds,
    )


def simulation(program: Program) -> Run:
    """A Program run operator by operator, in float."""
    return partial(_first_output, quick(program.methods["forward"]))


def _first_output(method: Method, batch: Tensor) -> Tensor:
    return execute(method, (batch,)).outputs[0]


def _answers(subject: Subject, run: Run) -> list[list[Any]]:
    return [exam.answers(run, subject.batch) for exam in subject.exams]


if __name__ == "__main__":
    with os.fdopen(int(sys.argv[1]), "w") as reports:
        work([decode(text) for text in sys.argv[3:]], Settings.model_validate_json(sys.argv[2]), reports)
