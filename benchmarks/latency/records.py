"""What one contender did on one model with one number of threads, and the file all of that is kept in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from benchmarks import book
from benchmarks.models import place
from hycompile.measure.conditions import Conditions
from hycompile.measure.statistics import Interval

RESULTS = Path(__file__).parent / "results.json"
REFERENCE = "onnxruntime"
OURS = ("hycompile-executorch", "hycompile-onnx", "hycompile-tvm")
RIVALS = (REFERENCE, "openvino", "litert", "torch-compile")
CONTENDERS = (*OURS, "executorch", *RIVALS, "eager")
# A contender further than this from the model does not compute it: its speed means nothing.
TOLERANCE = 1e-4

Status = Literal["timed", "failed", "refused", "missing"]


class Cell(NamedTuple):
    """What one record is about."""

    model: str
    contender: str
    threads: int


def encode(cell: Cell) -> str:
    """A cell as text for a command line."""
    return json.dumps(cell)


def decode(text: str) -> Cell:
    """The cell that ``encode`` made this text of."""
    return Cell(*json.loads(text))


class Strict(BaseModel):
    """Unknown fields are errors; values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Prepared(Strict):
    """A contender's artifact, built in a process of its own.

    ``ready``: on disk, and computes what the model computes. ``refused``: the tool cannot take the model. ``failed``:
    it computes something else, or broke. ``missing``: not installed; the reason says how to get it.

    ``rel_err`` is held against the eager model as its author wrote it. ``build_seconds`` and ``build_cpu_seconds``
    (of all threads of the process) run from the captured program to the file on disk, with the tools imported and the
    program captured before; ours include the passes, ``passes_seconds`` of them, each checked as it runs. Where a tool
    takes no captured program, its own capture is included. Eager builds nothing. ``delegates`` and ``outside_ops``
    count ExecuTorch's delegate calls and the compute operators outside of them.
    """

    status: Literal["ready", "failed", "refused", "missing"]
    reason: str = ""
    rel_err: float | None = Field(default=None, ge=0)
    delegates: int | None = None
    outside_ops: int | None = None
    build_seconds: float | None = None
    build_cpu_seconds: float | None = None
    passes_seconds: float | None = None


class Timed(Strict):
    """One contender's part in a sitting: rounds in which every contender ran, in one process, in shuffled order.

    Each sample is the time per execution of one round's batch, in milliseconds; ``cpu_ms`` is of the whole process and
    counts threads that spin while they wait. ``base_wall_ms`` and ``base_cpu_ms`` are ONNX Runtime's in the same
    rounds, None where it was not there. A ratio is the median of the paired ratios with its 95 % interval.
    ``gflops`` is achieved: operations of the model as its author wrote it, whatever a contender saved, over the median
    wall time; ``peak_gflops`` is torch's own float32 matrix product on the same threads, just before. ``others_cpus``
    is how many processors other processes kept busy meanwhile, on average; ``preempted`` how many of the contender's
    rounds they interrupted. ``conditions.load_before`` is of the start of the whole run.
    """

    status: Literal["timed", "failed"]
    reason: str = ""
    rel_err: float | None = Field(default=None, ge=0)
    cpu_ratio: float | None = None
    cpu_interval: Interval | None = None
    wall_ratio: float | None = None
    wall_interval: Interval | None = None
    gflops: float | None = None
    peak_gflops: float | None = None
    executions: int | None = None
    preempted: int | None = None
    others_cpus: float | None = None
    wall_ms: tuple[float, ...] = ()
    cpu_ms: tuple[float, ...] = ()
    base_wall_ms: tuple[float, ...] | None = None
    base_cpu_ms: tuple[float, ...] | None = None
    conditions: Conditions | None = None


class Record(Timed):
    """One entry of ``results.json``. ``pipeline`` is the text of the passes; only our own contenders have one."""

    model: str
    contender: str
    threads: int
    status: Status  # pyright: ignore[reportIncompatibleVariableOverride] - more ways to end than a sitting has
    delegates: int | None = None
    outside_ops: int | None = None
    build_seconds: float | None = None
    build_cpu_seconds: float | None = None
    passes_seconds: float | None = None
    pipeline: str | None = None

    @property
    def cell(self) -> Cell:
        return Cell(self.model, self.contender, self.threads)


def combine(cell: Cell, prepared: Prepared, timed: Timed | None, pipeline: str) -> Record:
    """The record of a cell; ``timed`` is None for a contender that had nothing to time."""
    known: dict[str, Any] = prepared.model_dump()
    if timed is not None:
        worst = max((error for error in (prepared.rel_err, timed.rel_err) if error is not None), default=None)
        known |= timed.model_dump() | {"rel_err": worst}
    return Record(**cell._asdict(), **known, pipeline=pipeline if cell.contender in OURS else None)


_RECORDS = TypeAdapter(list[Record])


def load(path: Path) -> list[Record]:
    """The records of a results file; none if there is no file yet."""
    return _RECORDS.validate_json(path.read_bytes()) if path.is_file() else []


def dump(records: Sequence[Record]) -> str:
    """The text of a results file: one record a line, as each holds hundreds of samples."""
    lines = [json.dumps(record.model_dump(mode="json")) for record in records]
    return "[\n" + ",\n".join(lines) + "\n]\n" if lines else "[]\n"


class Book(book.Book[Cell, Record]):
    """The records by cell, in the results file at ``path``."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, load(path), key=lambda record: record.cell, place=_place, dump=dump)


def _place(cell: Cell) -> tuple[tuple[int, str], int, int]:
    return place(cell.model), cell.threads, CONTENDERS.index(cell.contender)
