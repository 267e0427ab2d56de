"""Quantises the networks of every test bed by every method and measures them on labelled data.

In the repository's root, on any number of processors; every cell is on disk as soon as it is measured:

    python -m benchmarks.accuracy.run --jobs 16              # what runs.json does not hold yet
    python -m benchmarks.accuracy.run --only fashion-mnist --models mobilevit repvit --methods mse --settings W6A6
    python -m benchmarks.accuracy.run --methods q-hyvit-scale q-hyvit-granularity q-hyvit-scheme q-hyvit-bridges
    python -m benchmarks.accuracy.run --runners executorch onnx --methods mse --settings W8A8
    python -m benchmarks.accuracy.run --prepare --data DIR   # fetch all data; copy DIR to where there is no network
    python -m benchmarks.accuracy.run --render               # results.json, README.md and charts, nothing else
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.accuracy.beds import BEDS
from benchmarks.accuracy.methods import DEFAULT_SETTINGS, EVERY, PARTS, SETTINGS, methods_for, named, pipeline
from benchmarks.accuracy.records import FOLDER, RUNS, SIMULATION, Asked, Book, Cell, Outcome, combine, load
from benchmarks.accuracy.render import write_page
from benchmarks.accuracy.runners import DEVICES
from benchmarks.accuracy.shares import Progress, shares
from benchmarks.accuracy.worker import Settings, job, key
from benchmarks.supervise import ROOT, attempt_all
from hycompile import registry
from hycompile.errors import HycompileError, PassError
from hycompile.pipeline import Pipeline

_QUANTISING = ("passes", "hycompile/quantisation")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    options = parser().parse_args(arguments)
    if options.data is not None:
        os.environ["HYCOMPILE_CACHE"] = str(options.data.absolute())
    try:
        if options.prepare:
            for bed in options.only:
                BEDS[bed].prepare()
            return 0
        if not options.render:
            _run(options)
        write_page(options.results, load(options.results / RUNS))
    except HycompileError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _run(options: argparse.Namespace) -> None:
    book = Book(options.results / RUNS)
    settings = _settings(options)
    chosen = cells(options)
    pending = [cell for cell in chosen if wanted(book, cell, settings.of(cell), options)]
    book.drop(pending)
    progress, code = Progress(pending, options.jobs), sources()

    def keep(cell: Cell, outcome: Outcome, seconds: float) -> None:
        book.change(cell, lambda known: combine(cell, settings.of(cell), outcome, code))
        print(progress.tell(cell, outcome, seconds), flush=True)

    print(f"{len(pending)} of {len(chosen)} cells to measure, {options.jobs} at a time", flush=True)
    with ThreadPoolExecutor(options.jobs) as pool:
        work = [
            pool.submit(attempt_all, job(settings), share, keep, options.limit, 1)
            for share in shares(pending, options.jobs, {name: bed.cost for name, bed in BEDS.items()})
        ]
        for done in work:
            done.result()


def _settings(options: argparse.Namespace) -> Settings:
    """What is asked of every cell, by method and bits; every pipeline can be read, before anything is started."""
    if not registry.names("passes"):
        way_out = "install it (pip install --no-deps -e .), or let setuptools write its egg-info into the root"
        raise PassError("hycompile", "has no passes registered in this environment", way_out)
    methods, asked = named(options.method_text), dict[str, Asked]()
    for method in options.methods:
        if method not in methods:
            raise PassError(f"method {method!r}", "is not known", f"there are {', '.join(methods)}")
    for cell in cells(options):
        text = pipeline(methods[cell.method], cell.weight_bits, cell.activation_bits)
        Pipeline.parse(text)
        asked[key(cell)] = Asked(pipeline=text, calibration=options.calibration, images=options.images)
    return Settings(asked=asked)


def _methods(options: argparse.Namespace) -> list[str]:
    """Those named, else all but the parts of one, and those given as text."""
    return options.methods or [name for name in named(options.method_text) if name not in PARTS]


def cells(options: argparse.Namespace) -> list[Cell]:
    """All that are asked for; a method's cells are neighbours."""
    return [
        Cell(bed, model, seed, method, *SETTINGS[bits], runner)
        for bed in options.only
        for model in BEDS[bed].models
        if not options.models or model in options.models
        for seed in options.seeds
        for method in _methods(options)
        for bits in options.settings
        if method in methods_for(bed, SETTINGS[bits][1], options.method_text)
        for runner in options.runners
    ]


def wanted(book: Book, cell: Cell, asked: Asked, options: argparse.Namespace) -> bool:
    """Whether a cell is to be measured: it never was, or for something else, or in a way that is to be done again."""
    known = book.records.get(cell)
    if known is None or options.fresh or known.asked != asked:
        return True
    stale = "stale" in options.redo and known.code != sources()
    return stale or ("failed" in options.redo and known.status == "failed")


def sources() -> str:
    """A short digest of the files that decide what a plan is."""
    sha = hashlib.sha256()
    for path in sorted(path for folder in _QUANTISING for path in (ROOT / folder).rglob("*.py")):
        sha.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    return sha.hexdigest()[:12]


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy.run", description=(__doc__ or "").partition("\n")[0]
    )
    add = found.add_argument
    add("--jobs", type=int, default=1, metavar="N", help="processes at a time, of one thread each (default: 1)")
    add("--only", nargs="+", default=list(BEDS), choices=BEDS, metavar="BED", help=f"of {', '.join(BEDS)}")
    add("--models", nargs="+", default=[], metavar="MODEL", help="default: all of each bed")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2], choices=(0, 1, 2), metavar="N", help="default: 0 1 2")
    add("--methods", nargs="+", default=[], metavar="NAME", help=f"of {', '.join(EVERY)} and --method-text's")
    add("--method-text", nargs="+", default=[], metavar="NAME=TEXT", help="more methods; $w and $a are the bits")
    add("--settings", nargs="+", default=list(DEFAULT_SETTINGS), choices=SETTINGS, metavar="WxAy", help="bits")
    add("--runners", nargs="+", default=[SIMULATION], choices=(SIMULATION, *DEVICES), metavar="NAME", help="of what")
    add("--calibration", type=int, default=256, metavar="N", help="inputs to calibrate on (default: 256)")
    add("--images", type=int, default=0, metavar="N", help="test inputs (default: 0, all)")
    add("--redo", nargs="+", default=[], choices=("failed", "stale"), help="measure again what failed, or older code")
    add("--fresh", action="store_true", help="measure all that is chosen again")
    add("--limit", type=float, default=7200, metavar="SECONDS", help="for one cell (default: 7200)")
    add("--data", type=Path, metavar="DIR", help="where data is read and kept (default: $HYCOMPILE_CACHE)")
    add("--prepare", action="store_true", help="fetch the data of the chosen beds and stop")
    add("--render", action="store_true", help="write the page from runs.json and stop")
    add("--results", type=Path, default=FOLDER, metavar="DIR", help="folder of runs.json and the page")
    return found


if __name__ == "__main__":
    sys.exit(main())
