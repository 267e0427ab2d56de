"""The process one model is worked on in: takes attempts, and says on a pipe which one begins and what became of it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple, TextIO

from benchmarks.coverage.ours import Subject, build
from benchmarks.coverage.records import Cell, Outcome, Precision
from benchmarks.coverage.stock import try_stock
from benchmarks.messages import Job


class Attempt(NamedTuple):
    """One piece of work: a cell with our backend, or with the stock tool."""

    cell: Cell
    stock: bool

    def encode(self) -> str:
        return json.dumps([*self.cell, self.stock])

    @classmethod
    def decode(cls, text: str) -> Attempt:
        model, backend, precision, stock = json.loads(text)
        return cls(Cell(model, backend, precision), stock)


def _lost(reason: str) -> Outcome:
    return Outcome(status="failed", reason=reason)


JOB: Job[Attempt, Outcome] = Job("benchmarks.coverage.worker", Attempt.encode, Attempt.decode, Outcome, _lost)


def work(attempts: Sequence[Attempt], pipe: TextIO) -> None:
    """Go through the attempts; what is shared (capture, passes) is made once, by the first that needs it."""
    subject = Subject(attempts[0].cell.model)
    for attempt in attempts:
        JOB.say_begun(pipe, attempt)
        precision: Precision = attempt.cell.precision
        backend = attempt.cell.backend
        outcome = try_stock(subject, backend) if attempt.stock else build(subject, backend, precision)
        JOB.say_done(pipe, outcome)


if __name__ == "__main__":
    with os.fdopen(int(sys.argv[1]), "w") as pipe:
        work([Attempt.decode(text) for text in sys.argv[2:]], pipe)
