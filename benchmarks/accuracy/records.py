"""What one quantised network scored, and the file all of that is kept in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, TypeAdapter

from benchmarks import book

FOLDER = Path(__file__).parent
RUNS = "runs.json"
SIMULATION = "simulation"

Metric = Literal["top1", "cer", "line_accuracy", "agreement", "bits_per_byte"]
Status = Literal["measured", "failed"]


class Cell(NamedTuple):
    """One measurement: a network of one seed, quantised by one method, run by the simulation or by an artifact."""

    bed: str
    model: str
    seed: int
    method: str
    weight_bits: int
    activation_bits: int
    runner: str = SIMULATION

    @property
    def network(self) -> tuple[str, str, int]:
        """What is loaded once for all cells that share it."""
        return self.bed, self.model, self.seed


def encode(cell: Cell) -> str:
    """A cell as text for a command line."""
    return json.dumps(cell)


def decode(text: str) -> Cell:
    """The cell that ``encode`` made this text of."""
    return Cell(*json.loads(text))


class Strict(BaseModel):
    """Unknown fields are errors; values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def beside_float() -> Any:
    """A field that files call ``float``, which in a class would hide the type."""
    return Field(validation_alias=AliasChoices("float", "reference"), serialization_alias="float")


class Score(Strict):
    """One figure over all samples of a test bed; percent where it is a rate, ``reference`` is the float network's."""

    testbed: str
    metric: Metric
    reference: float = beside_float()
    value: float
    samples: int


class Outcome(Strict):
    """What became of a cell: scores, or why there are none.

    ``sqnr`` is the signal-to-noise ratio of the outputs on the calibration set, in dB. Processor time:
    ``quantise_seconds`` for choosing and writing the plan, ``answer_seconds`` for going through the test inputs.
    """

    status: Status
    reason: str = ""
    scores: tuple[Score, ...] = ()
    sqnr: float | None = None
    quantise_seconds: float | None = None
    answer_seconds: float | None = None


class Asked(Strict):
    """What decides a cell's outcome beside the cell: a record made for something else is made anew.

    Args:
        pipeline: text of the passes, those before quantisation among them.
        calibration: how many inputs the ranges come from.
        images: how many test inputs, 0 for all.
    """

    pipeline: str
    calibration: int
    images: int


class Record(Outcome, Asked):
    """One line of ``runs.json``; ``code`` is a digest of the sources that quantise, as they were."""

    bed: str
    model: str
    seed: int
    method: str
    weight_bits: int
    activation_bits: int
    runner: str
    code: str

    @property
    def cell(self) -> Cell:
        return Cell(*(getattr(self, name) for name in Cell._fields))

    @property
    def asked(self) -> Asked:
        return Asked(**{name: getattr(self, name) for name in Asked.model_fields})


_RECORDS = TypeAdapter(list[Record])


def combine(cell: Cell, asked: Asked, outcome: Outcome, code: str) -> Record:
    """The record of a cell."""
    parts: Mapping[str, Any] = {**cell._asdict(), **asked.model_dump(), **outcome.model_dump()}
    return Record(**parts, code=code)


def load(path: Path) -> list[Record]:
    """The records of a results file; none if there is no file yet."""
    return _RECORDS.validate_json(path.read_bytes()) if path.is_file() else []


def dump(records: Sequence[Record]) -> str:
    """The text of a results file: one record a line."""
    lines = [json.dumps(record.model_dump(mode="json", by_alias=True)) for record in records]
    return "[\n" + ",\n".join(lines) + "\n]\n" if lines else "[]\n"


class Book(book.Book[Cell, Record]):
    """The records by cell, in the file at ``path``."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, load(path), key=lambda record: record.cell, place=lambda cell: cell, dump=dump)
