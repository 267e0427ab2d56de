"""Times every contender on every model in interleaved rounds, one process per model; results are kept as they come.

In the repository's root, on a machine that does nothing else:

    python -m benchmarks.latency.run                       # what results.json does not hold yet
    python -m benchmarks.latency.run --redo failed         # and what failed
    python -m benchmarks.latency.run --fresh --contenders hycompile-executorch
    python -m benchmarks.latency.run --render              # README.md and the charts, nothing else
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from benchmarks.latency import build_worker, time_worker
from benchmarks.latency.contender import Options
from benchmarks.latency.records import (
    CONTENDERS,
    REFERENCE,
    RESULTS,
    Book,
    Cell,
    Prepared,
    Record,
    Status,
    Timed,
    combine,
    load,
)
from benchmarks.latency.render import write_page
from benchmarks.latency.rounds import Plan
from benchmarks.latency.settings import Settings
from benchmarks.models import MODELS
from benchmarks.supervise import ROOT, attempt_all
from hycompile.device import load_target
from hycompile.measure.conditions import load_average

_DEVICE = "host"
_QUIET_LOAD = 0.3


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    options = _parser().parse_args(arguments)
    if not options.render:
        _run(options)
    write_page(options.results.parent, load(options.results))


def _run(options: argparse.Namespace) -> None:
    load_before = load_average()
    if load_before is not None and load_before > _QUIET_LOAD:
        print(f"warning: load average {load_before:.1f} before anything began: this machine is busy", file=sys.stderr)
    book = Book(options.results)
    chosen = [
        Cell(model, contender, threads)
        for model in options.models
        for threads in options.threads
        for contender in options.contenders
    ]
    book.drop([cell for cell in chosen if options.fresh or _status(book, cell) in options.redo])
    for model in options.models:
        pending = [cell for cell in chosen if cell.model == model and cell not in book.records]
        if pending:
            with tempfile.TemporaryDirectory(prefix="latency-") as folder:
                shared = Options(options.pipeline, options.litert_python.absolute(), max(options.threads))
                plan = Plan(rounds=options.rounds)
                settings = Settings(folder=Path(folder), options=shared, plan=plan, load_before=load_before)
                measure_model(book, pending, settings, options.limit)


def measure_model(book: Book, pending: Sequence[Cell], settings: Settings, limit_s: float) -> None:
    """Build what one model's cells need, and time them; the reference takes part whether it is pending or not."""
    model, pipeline, built = pending[0].model, settings.options.pipeline, dict[str, Prepared]()

    def keep_built(cell: Cell, outcome: Prepared, seconds: float) -> None:
        built[cell.contender] = outcome
        cost = "" if outcome.build_seconds is None else f" built in {outcome.build_seconds:.1f} s"
        _tell(f"{model} {cell.contender}", f"{outcome.status}{cost}", seconds, outcome.reason)

    def keep_timed(cell: Cell, outcome: Timed, seconds: float) -> None:
        if cell in pending:
            _store(book, combine(cell, built[cell.contender], outcome, pipeline))
        ratio = "" if outcome.wall_ratio is None else f" wall {outcome.wall_ratio:.3g} cpu {outcome.cpu_ratio:.3g}"
        _tell(f"{model} {cell.contender} x{cell.threads}", f"{outcome.status}{ratio}", None, outcome.reason)

    def build(contender: str) -> None:
        # A process for each: a build that others have warmed up would tell less than its cost.
        cell = Cell(model, contender, settings.options.threads)
        attempt_all(build_worker.job(settings), [cell], keep_built, limit_s, settings.options.threads)

    for contender in dict.fromkeys(cell.contender for cell in pending):
        build(contender)
    if REFERENCE not in built and any(outcome.status == "ready" for outcome in built.values()):
        build(REFERENCE)
    for cell in pending:
        if built[cell.contender].status != "ready":
            _store(book, combine(cell, built[cell.contender], None, pipeline))
    for threads in dict.fromkeys(cell.threads for cell in pending):
        sitting = plan_sitting([cell for cell in pending if cell.threads == threads], built)
        if sitting:
            attempt_all(time_worker.job(settings), sitting, keep_timed, limit_s, threads)


def plan_sitting(pending: Sequence[Cell], built: dict[str, Prepared]) -> list[Cell]:
    """Who is timed together with one number of threads: what is pending and ready, and the reference."""
    ready = [cell for cell in pending if built[cell.contender].status == "ready"]
    reference = built.get(REFERENCE)
    if not ready or reference is None or reference.status != "ready":
        return ready
    return list(dict.fromkeys([ready[0]._replace(contender=REFERENCE), *ready]))


def _store(book: Book, record: Record) -> None:
    book.change(record.cell, lambda known: record)


def _status(book: Book, cell: Cell) -> Status | None:
    return book.records[cell].status if cell in book.records else None


def _tell(who: str, what: str, seconds: float | None, reason: str) -> None:
    took = "" if seconds is None else f" in {seconds:.0f} s"
    print(f"{who:<55} {what}{took} {reason}", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.latency.run", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--models", nargs="+", default=list(MODELS), metavar="MODEL", help="default: the twenty")
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=CONTENDERS, metavar="NAME")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], metavar="N", help="default: 1 2")
    parser.add_argument("--rounds", type=int, default=Plan.rounds, help=f"default: {Plan.rounds}")
    parser.add_argument("--pipeline", default=load_target(_DEVICE).pipeline, help="default: the one of this device")
    parser.add_argument("--limit", type=float, default=3600, metavar="SECONDS", help="of silence of a worker")
    parser.add_argument("--redo", nargs="+", default=[], choices=get_args(Status), help="try what ended so again")
    parser.add_argument("--fresh", action="store_true", help="forget what results.json holds of the chosen cells")
    parser.add_argument("--render", action="store_true", help="only make README.md and the charts")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE", help="the page goes beside it")
    parser.add_argument(
        "--litert-python",
        type=Path,
        default=ROOT / ".venv-litert" / "bin" / "python",
        metavar="FILE",
        help="interpreter of the environment with litert-torch (default: .venv-litert/bin/python)",
    )
    return parser


if __name__ == "__main__":
    main()
