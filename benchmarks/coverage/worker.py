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


class Begun(NamedTuple):
    """The worker starts on an attempt; if nothing follows, that attempt killed it."""

    attempt: Attempt


class Done(NamedTuple):
    """What became of the attempt begun last."""

    outcome: Outcome


def read_message(line: str) -> Begun | Done:
    """One line from the worker's pipe."""
    message = json.loads(line)
    if "begun" in message:
        return Begun(Attempt.decode(message["begun"]))
    return Done(Outcome.model_validate(message["done"]))


def command(attempts: Sequence[Attempt], descriptor: int) -> list[str]:
    """The command line of a worker for these attempts, all of one model, that reports to an inherited descriptor."""
    return [sys.executable, "-m", "benchmarks.coverage.worker", str(descriptor), *(item.encode() for item in attempts)]


def work(attempts: Sequence[Attempt], pipe: TextIO) -> None:
    """Go through the attempts; what is shared (capture, passes) is made once, by the first that needs it."""
    subject = Subject(attempts[0].cell.model)
    for attempt in attempts:
        print(json.dumps({"begun": attempt.encode()}), file=pipe, flush=True)
        precision: Precision = attempt.cell.precision
        backend = attempt.cell.backend
        outcome = try_stock(subject, backend) if attempt.stock else build(subject, backend, precision)
        print(json.dumps({"done": outcome.model_dump(mode="json")}), file=pipe, flush=True)


if __name__ == "__main__":
    with os.fdopen(int(sys.argv[1]), "w") as pipe:
        work([Attempt.decode(text) for text in sys.argv[2:]], pipe)
