"""The process one contender is built in: from the model to an artifact on disk, held against the model."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from benchmarks.exports import one_line
from benchmarks.latency.contender import Contender
from benchmarks.latency.contenders import BY_NAME
from benchmarks.latency.records import TOLERANCE, Cell, Prepared, decode, encode
from benchmarks.latency.settings import Settings
from benchmarks.latency.subject import Subject
from benchmarks.messages import Job


def job(settings: Settings) -> Job[Cell, Prepared]:
    """Building; the threads of a cell do not matter, those of the options do."""
    return Job("benchmarks.latency.build_worker", encode, decode, Prepared, _lost, (settings.model_dump_json(),))


def _lost(reason: str) -> Prepared:
    return Prepared(status="failed", reason=reason)


def prepare(contender: Contender, load: Callable[[], Subject], folder: Path, settings: Settings) -> Prepared:
    """Build, open and hold against the model. Raises nothing that is the tool's fault: that becomes the outcome."""
    from hycompile.errors import HycompileError, Unsupported

    missing = contender.missing(settings.options)
    if missing is not None:
        return Prepared(status="missing", reason=missing)
    subject = load()
    try:
        built = contender.build(subject, folder, settings.options)
    except Unsupported as error:
        return Prepared(status="refused", reason=str(error))
    except HycompileError as error:
        return Prepared(status="failed", reason=str(error))
    except Exception as error:  # noqa: BLE001 - the tool under test raises whatever it likes; that is the finding
        return Prepared(status="refused", reason=one_line(error))
    try:
        error = subject.error(contender.open(subject, folder, settings.options.threads))
    except Exception as error:  # noqa: BLE001 - as above: its artifact does not run
        return Prepared(status="failed", reason=f"does not run: {one_line(error)}", **vars(built))
    reason = beyond(error)
    shown = error if math.isfinite(error) else None
    return Prepared(status="failed" if reason else "ready", reason=reason, rel_err=shown, **vars(built))


def beyond(error: float) -> str:
    """Why a contender with this relative error is not timed; empty if it is."""
    return "" if error <= TOLERANCE else f"relative error {error:.2e}, allowed {TOLERANCE:.0e}"


def work(cells: list[Cell], settings: Settings, pipe: TextIO) -> None:
    """Go through the cells, all of one model."""
    import torch

    torch.set_num_threads(settings.options.threads)
    for cell in cells:
        job(settings).say_begun(pipe, cell)
        folder = settings.artifact(cell.contender)
        folder.mkdir(parents=True, exist_ok=True)
        done = prepare(BY_NAME[cell.contender], lambda model=cell.model: Subject(model), folder, settings)
        job(settings).say_done(pipe, done)


if __name__ == "__main__":
    with os.fdopen(int(sys.argv[1]), "w") as reports:
        work([decode(text) for text in sys.argv[3:]], Settings.model_validate_json(sys.argv[2]), reports)
