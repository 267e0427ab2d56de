"""What one contender did in one sitting, and the file all of that is kept in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import TypeAdapter

from benchmarks import book
from benchmarks.language.builds import Mode, Strict
from benchmarks.language.prepare import Prepared
from benchmarks.language.rounds import Samples
from benchmarks.language.sittings import COMPARISONS, Entry, Sitting
from benchmarks.latency.rounds import paired_ratio
from hycompile.measure.conditions import Conditions
from hycompile.measure.statistics import Interval, median

RESULTS = Path(__file__).parent / "results.json"
Status = Literal["timed", "failed", "refused", "missing"]


class Cell(NamedTuple):
    """What one record is about."""

    comparison: str
    model: str
    contender: str
    mode: Mode
    context: int
    threads: int


class Timing(Strict):
    """A contender's part in a sitting: samples of the time per execution, in milliseconds, one a round.

    ``others_cpus`` is how many processors other work kept busy meanwhile, on average.
    """

    contender: str
    model: str
    status: Literal["timed", "failed"]
    reason: str = ""
    executions: int | None = None
    wall_ms: tuple[float, ...] = ()
    cpu_ms: tuple[float, ...] = ()
    others_cpus: float | None = None
    conditions: Conditions | None = None


class Record(Strict):
    """One entry of ``results.json``.

    ``reference`` names the contender of the same sitting that ratios are to, by its model where that is what differs;
    it is the median of the ratios of every round, in which both ran, with its 95 % interval. ``cpu_ratio`` is of
    processor time over all threads, ``wall_ratio`` of time. ``context`` is the tokens of the prompt, or those before
    the one that is decoded. ``state_bytes`` is what is kept of one sequence. ``rel_err`` is the largest error of logits
    against eager over the prompt's last token and four more, relative to the largest logit.
    ``pipeline`` is the text of the passes; only our own contenders have one.
    """

    comparison: str
    model: str
    contender: str
    mode: Mode
    context: int
    threads: int
    reference: str
    status: Status
    reason: str = ""
    tokens_per_second: float | None = None
    cpu_ratio: float | None = None
    cpu_interval: Interval | None = None
    wall_ratio: float | None = None
    wall_interval: Interval | None = None
    state_bytes: int | None = None
    rel_err: float | None = None
    size_bytes: int | None = None
    build_seconds: float | None = None
    pipeline: str | None = None
    executions: int | None = None
    wall_ms: tuple[float, ...] = ()
    cpu_ms: tuple[float, ...] = ()
    others_cpus: float | None = None
    conditions: Conditions | None = None

    @property
    def cell(self) -> Cell:
        return Cell(self.comparison, self.model, self.contender, self.mode, self.context, self.threads)


def cell_of(sitting: Sitting, entry: Entry) -> Cell:
    """The cell of one contender's part."""
    return Cell(
        sitting.comparison,
        entry.build.label,
        entry.contender,
        sitting.mode,
        sitting.context,
        sitting.threads,
    )


def combine(sitting: Sitting, entry: Entry, prepared: Prepared, timing: Timing | None, base: Timing | None) -> Record:
    """The record of a cell; ``timing`` is None for a contender that had nothing to time, ``base`` the reference's."""
    reason = timing.reason if timing is not None else prepared.absent.get(sitting.mode, prepared.reason)
    status: Status = timing.status if timing else "refused" if prepared.status == "ready" else prepared.status
    values = {
        **cell_of(sitting, entry)._asdict(),
        "reference": sitting.reference_name,
        "status": status,
        "reason": reason,
        "state_bytes": prepared.state_bytes,
        "rel_err": prepared.rel_err,
        "size_bytes": prepared.size_bytes,
        "build_seconds": prepared.seconds,
        "pipeline": prepared.pipeline,
    }
    if timing is not None:
        values |= timing.model_dump(exclude={"contender", "model", "status", "reason"})
    if timing is not None and timing.wall_ms:
        tokens = sitting.context if sitting.mode == "prefill" else 1
        values["tokens_per_second"] = 1e3 * tokens / median(timing.wall_ms)
        if base is not None and base.wall_ms:
            wall, cpu = paired_ratio(timing.wall_ms, base.wall_ms), paired_ratio(timing.cpu_ms, base.cpu_ms)
            values |= {"wall_ratio": wall.value, "wall_interval": wall.interval}
            values |= {"cpu_ratio": cpu.value, "cpu_interval": cpu.interval}
    return Record.model_validate(values)


def timing_of(entry: Entry, samples: Samples, others: float, conditions: Conditions) -> Timing:
    """A contender's samples as they travel."""
    return Timing(
        contender=entry.contender,
        model=entry.build.label,
        status="timed",
        **samples._asdict(),
        others_cpus=others,
        conditions=conditions,
    )


_RECORDS = TypeAdapter(list[Record])


def load(path: Path) -> list[Record]:
    """The records of a results file; none if there is no file yet."""
    return _RECORDS.validate_json(path.read_bytes()) if path.is_file() else []


def dump(records: Sequence[Record]) -> str:
    """The text of a results file: one record a line."""
    lines = [json.dumps(record.model_dump(mode="json")) for record in records]
    return "[\n" + ",\n".join(lines) + "\n]\n" if lines else "[]\n"


class Book(book.Book[Cell, Record]):
    """The records by cell, in the results file at ``path``."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, load(path), key=lambda record: record.cell, place=_place, dump=dump)


def _place(cell: Cell) -> tuple[object, ...]:
    return COMPARISONS.index(cell.comparison), cell.model, cell.mode, cell.context, cell.threads, cell.contender
