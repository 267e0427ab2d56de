"""What one cell of the coverage table holds, and the file all cells are kept in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from benchmarks import book
from benchmarks.models import place

RESULTS = Path(__file__).parent / "results.json"
BACKENDS = ("executorch", "onnx", "coreml", "tvm", "tensorrt_rtx")

Precision = Literal["fp32", "fp16"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16")
Status = Literal["proved", "built", "refused", "failed"]


class Cell(NamedTuple):
    """One square of the table."""

    model: str
    backend: str
    precision: Precision


class Outcome(BaseModel):
    """What became of one attempt.

    ``proved``: ran here and agrees with the model. ``built``: there is an artifact, which cannot run here.
    ``refused``: the tool says it cannot take the model. ``failed``: it computes something else, or broke.
    ``rel_err`` is the largest relative error over three draws of inputs, None if it did not run or is not finite.
    ``seconds`` is of lowering only. ``batch_norms_reason`` says which rule refused those left in the exported program.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    status: Status
    rel_err: float | None = Field(default=None, ge=0)
    reason: str = ""
    seconds: float = 0.0
    batch_norms_left: int | None = None
    batch_norms_reason: str = ""
    tools: dict[str, str] = Field(default_factory=dict[str, str])


class Record(Outcome):
    """One entry of ``results.json``; the stock exporter is tried in fp32 only, so its fields may be None."""

    model: str
    backend: str
    precision: Precision
    stock_status: Status | None = None
    stock_rel_err: float | None = None
    stock_reason: str | None = None
    stock_seconds: float | None = None

    @property
    def cell(self) -> Cell:
        return Cell(self.model, self.backend, self.precision)


_RECORDS = TypeAdapter(list[Record])


def load(path: Path) -> list[Record]:
    """The records of a results file; none if there is no file yet."""
    return _RECORDS.validate_json(path.read_bytes()) if path.is_file() else []


class Book(book.Book[Cell, Record]):
    """The records by cell; every change is on disk before the call returns, and threads may share it.

    Args:
        path: the results file; what it holds already is kept.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, load(path), key=lambda record: record.cell, place=_place, dump=_dump)

    def put(self, cell: Cell, outcome: Outcome) -> None:
        """Store what our own backend made of a cell; what the stock tool made of it stays."""

        def merged(known: Record | None) -> Record:
            stock = known.model_dump(include=set(_STOCK)) if known is not None else {}
            return Record(**cell._asdict(), **outcome.model_dump(), **stock)

        self.change(cell, merged)

    def put_stock(self, cell: Cell, outcome: Outcome) -> None:
        """Store what the stock tool made of a cell that our backend has been through."""
        stock = {field: getattr(outcome, field.removeprefix("stock_")) for field in _STOCK}

        def merged(known: Record | None) -> Record:
            if known is None:
                raise KeyError(cell)
            return known.model_copy(update=stock)

        self.change(cell, merged)


_STOCK = ("stock_status", "stock_rel_err", "stock_reason", "stock_seconds")


def _dump(records: Sequence[Record]) -> str:
    return _RECORDS.dump_json(list(records), indent=2).decode() + "\n"


def _place(cell: Cell) -> tuple[tuple[int, str], int, int]:
    return place(cell.model), BACKENDS.index(cell.backend), PRECISIONS.index(cell.precision)
