"""Builds and proves hybrid language models on every target; results are kept as they come.

In the repository's root:

    python -m benchmarks.language.coverage.run                  # what results.json does not hold yet
    python -m benchmarks.language.coverage.run --redo failed    # and what failed
    python -m benchmarks.language.coverage.run --render         # README.md from results.json, nothing else
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from benchmarks.language.coverage.records import MODELS, RESULTS, TARGETS, Book, Cell, Outcome, Status, load
from benchmarks.language.coverage.render import render
from benchmarks.language.coverage.worker import JOB
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
    cells = [Cell(model, target) for model in options.models for target in options.targets]
    book.drop(cell for cell in cells if cell in book.records and book.records[cell].status in options.redo)

    def keep(cell: Cell, outcome: Outcome, seconds: float) -> None:
        book.put(cell, outcome)
        error = "" if outcome.rel_err is None else f" {outcome.rel_err:.1e}"
        print(f"{' '.join(cell):<45} {outcome.status}{error} in {seconds:.0f} s {outcome.reason}", flush=True)

    for model in options.models:
        pending = [cell for cell in cells if cell.model == model and cell not in book.records]
        attempt_all(JOB, pending, keep, options.limit, options.threads)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.language.coverage.run", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--models", nargs="+", default=list(MODELS), metavar="MODEL", help="default: all of the table")
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=TARGETS)
    parser.add_argument("--threads", type=int, default=1, help="of a worker (default: 1)")
    parser.add_argument("--limit", type=float, default=1800, metavar="SECONDS", help="for one cell (default: 1800)")
    parser.add_argument(
        "--redo", nargs="+", default=[], choices=get_args(Status), help="try cells of this status again"
    )
    parser.add_argument("--render", action="store_true", help="only render README.md from results.json")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE", help="README.md goes beside it")
    return parser


if __name__ == "__main__":
    main()
