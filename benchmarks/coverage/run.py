"""Builds and proves the coverage list on every backend, beside the stock exporters; results are kept as they come.

In the repository's root:

    python -m benchmarks.coverage.run                  # what results.json does not hold yet
    python -m benchmarks.coverage.run --redo failed    # and what failed
    python -m benchmarks.coverage.run --fresh          # everything anew
    python -m benchmarks.coverage.run --render         # README.md from results.json, nothing else
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args

from benchmarks.coverage.records import (
    BACKENDS,
    PRECISIONS,
    RESULTS,
    Book,
    Cell,
    Outcome,
    Precision,
    Status,
    load,
)
from benchmarks.coverage.render import render
from benchmarks.coverage.worker import JOB, Attempt
from benchmarks.models import MODELS
from benchmarks.supervise import attempt_all
from hycompile.files import write_text


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    options = _parser().parse_args(arguments)
    results: Path = options.results
    if not options.render:
        _run(options)
    write_text(results.with_name("README.md"), render(load(results)))


def _run(options: argparse.Namespace) -> None:
    book = Book(options.results)
    cells = [
        Cell(model, backend, precision)
        for model in options.models
        for backend in options.backends
        for precision in options.precisions
    ]
    book.drop(cell for cell in cells if options.fresh or _status(book, cell) in options.redo)
    threads = max(1, (os.cpu_count() or 1) // options.jobs)

    def keep(attempt: Attempt, outcome: Outcome, seconds: float) -> None:
        (book.put_stock if attempt.stock else book.put)(attempt.cell, outcome)
        _tell(attempt, outcome, seconds)

    def one(model: str) -> None:
        pending = plan(book, [cell for cell in cells if cell.model == model], options.stock)
        attempt_all(JOB, pending, keep, options.limit, threads)

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(one, options.models))


def plan(book: Book, cells: Sequence[Cell], stock: bool) -> list[Attempt]:
    """What is left to do for one model: our cells first, then the stock tools, in fp32, where they were not tried."""
    ours = [Attempt(cell, stock=False) for cell in cells if cell not in book.records]
    untried = [cell for cell in cells if cell not in book.records or book.records[cell].stock_status is None]
    return ours + [Attempt(cell, stock=True) for cell in untried if stock and cell.precision == "fp32"]


def _status(book: Book, cell: Cell) -> Status | None:
    return book.records[cell].status if cell in book.records else None


def _tell(attempt: Attempt, outcome: Outcome, seconds: float) -> None:
    who = " ".join([*attempt.cell, *(["stock"] if attempt.stock else [])])
    error = "" if outcome.rel_err is None else f" {outcome.rel_err:.1e}"
    print(f"{who:<60} {outcome.status}{error} in {seconds:.0f} s {outcome.reason}", flush=True)


def _precision(text: str) -> Precision:
    for precision in PRECISIONS:
        if text == precision:
            return precision
    raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(PRECISIONS)}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.coverage.run", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "--models", nargs="+", default=list(MODELS), metavar="MODEL", help="default: the list of twenty"
    )
    parser.add_argument("--backends", nargs="+", default=list(BACKENDS), choices=BACKENDS)
    parser.add_argument("--precisions", nargs="+", default=list(PRECISIONS), type=_precision, metavar="{fp32,fp16}")
    parser.add_argument("--jobs", type=int, default=1, help="models worked on at the same time (default: 1)")
    parser.add_argument("--limit", type=float, default=1800, metavar="SECONDS", help="for one attempt (default: 1800)")
    parser.add_argument("--no-stock", dest="stock", action="store_false", help="leave the stock exporters out")
    parser.add_argument(
        "--redo", nargs="+", default=[], choices=get_args(Status), help="try cells of this status again"
    )
    parser.add_argument("--fresh", action="store_true", help="forget what results.json holds of the chosen cells")
    parser.add_argument("--render", action="store_true", help="only render README.md from results.json")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE", help="README.md goes beside it")
    return parser


if __name__ == "__main__":
    main()
