"""What one cell of the coverage table holds, and the file all cells are kept in."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from hycompile.files import write_text

RESULTS = Path(__file__).parent / "results.json"
MODELS = (
    "nextvit_small",
    "efficientformer_l1",
    "efficientformerv2_s0",
    "efficientvit_m2",
    "efficientvit_b1",
    "mobilevit_s",
    "mobilevitv2_100",
    "fastvit_t8",
    "repvit_m1_0",
    "mobileone_s0",
    "mobilenetv4_hybrid_medium",
    "levit_128",
    "edgenext_small",
    "tiny_vit_5m_224",
    "maxvit_tiny_tf_224",
    "coatnet_nano_rw_224",
    "swiftformer_xs",
    "shvit_s1",
    "hiera_tiny_224",
    "PP-OCRv6",
)
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


class Book:
    """The records by cell; every change is on disk before the call returns, and threads may share it.

    Args:
        path: the results file; what it holds already is kept.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.records = path, {record.cell: record for record in load(path)}
        self._lock = threading.Lock()

    def put(self, cell: Cell, outcome: Outcome) -> None:
        """Store what our own backend made of a cell; what the stock tool made of it stays."""
        with self._lock:
            known = self.records.get(cell)
            stock = known.model_dump(include=set(_STOCK)) if known is not None else {}
            self._store(Record(**cell._asdict(), **outcome.model_dump(), **stock))

    def put_stock(self, cell: Cell, outcome: Outcome) -> None:
        """Store what the stock tool made of a cell that our backend has been through."""
        stock = {field: getattr(outcome, field.removeprefix("stock_")) for field in _STOCK}
        with self._lock:
            self._store(self.records[cell].model_copy(update=stock))

    def drop(self, cells: Iterable[Cell]) -> None:
        """Forget cells, to have them tried again."""
        with self._lock:
            for cell in cells:
                self.records.pop(cell, None)

    def _store(self, record: Record) -> None:
        self.records[record.cell] = record
        ordered = sorted(self.records.values(), key=lambda record: _place(record.cell))
        write_text(self.path, _RECORDS.dump_json(ordered, indent=2).decode() + "\n")


_STOCK = ("stock_status", "stock_rel_err", "stock_reason", "stock_seconds")


def _place(cell: Cell) -> tuple[int, str, int, int]:
    """Order of the table; models outside the list come last, by name."""
    model = MODELS.index(cell.model) if cell.model in MODELS else len(MODELS)
    return model, cell.model, BACKENDS.index(cell.backend), PRECISIONS.index(cell.precision)
