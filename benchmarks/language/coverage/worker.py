"""The process one model is worked on in: takes attempts, and says on a pipe which one begins and what became of it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import TextIO

from benchmarks.language.coverage.records import Cell, Outcome
from benchmarks.language.coverage.subject import Subject, attempt
from benchmarks.messages import Job


def _encode(cell: Cell) -> str:
    return json.dumps(cell)


def _decode(text: str) -> Cell:
    return Cell(*json.loads(text))


def _lost(reason: str) -> Outcome:
    return Outcome(status="failed", reason=reason)


JOB: Job[Cell, Outcome] = Job("benchmarks.language.coverage.worker", _encode, _decode, Outcome, _lost)


def work(cells: Sequence[Cell], pipe: TextIO) -> None:
    """Go through the cells of one model; what they share (capture, passes) is made once, by the first."""
    subject = Subject(cells[0].model)
    for cell in cells:
        JOB.say_begun(pipe, cell)
        JOB.say_done(pipe, attempt(subject, cell.target))


if __name__ == "__main__":
    with os.fdopen(int(sys.argv[1]), "w") as pipe:
        work([_decode(text) for text in sys.argv[2:]], pipe)
