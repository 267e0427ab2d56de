"""Times language models beside each other and beside other runtimes; results are kept as they come.

In the repository's root; timing on a machine that does nothing else:

    python -m benchmarks.language.run --build          # only build what is missing: nothing is timed
    python -m benchmarks.language.run                  # build and time what results.json does not hold yet
    python -m benchmarks.language.run --only cut --fresh
    python -m benchmarks.language.run --quick          # tiny models, into a results file beside the builds
    python -m benchmarks.language.run --render         # README.md and the chart, nothing else
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.language import build_worker, time_worker
from benchmarks.language.builds import Build
from benchmarks.language.prepare import Prepared, known
from benchmarks.language.records import RESULTS, Book, Timing, cell_of, combine, load
from benchmarks.language.render import write_page
from benchmarks.language.rounds import Plan
from benchmarks.language.sittings import COMPARISONS, FULL, QUICK, Entry, Sitting, sittings
from benchmarks.language.time_worker import Sat, Settings
from benchmarks.supervise import attempt_all
from hycompile.cache import default_root
from hycompile.measure.conditions import load_average

_QUIET_LOAD = 0.3


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    options = _parser().parse_args(arguments)
    if options.results is None:
        options.results = options.builds / "quick" / "results.json" if options.quick else RESULTS
    if not options.render:
        _run(options)
    if options.results == RESULTS and not options.build:
        write_page(RESULTS.parent, load(RESULTS))


def _run(options: argparse.Namespace) -> None:
    load_before = load_average()
    if not options.build and load_before is not None and load_before > _QUIET_LOAD:
        print(f"warning: load average {load_before:.1f} before anything began: this machine is busy", file=sys.stderr)
    book, chosen = Book(options.results), _chosen(options)
    if options.fresh and not options.build:
        book.drop([cell_of(sitting, entry) for sitting in chosen for entry in sitting.entries])
    pending = [sitting for sitting in chosen if options.build or not _is_known(book, sitting)]
    ready = _build_all(pending, options)
    if options.build:
        return
    settings = Settings(folder=options.builds, plan=Plan(rounds=options.rounds), load_before=load_before)
    began = time.perf_counter()
    for number, sitting in enumerate(pending, 1):
        _tell(f"[{number}/{len(pending)}, {time.perf_counter() - began:.0f} s] {sitting.title}", "")
        _time(book, sitting, ready, settings, options.limit)


def _chosen(options: argparse.Namespace) -> list[Sitting]:
    scale = QUICK if options.quick else FULL
    return [
        sitting
        for sitting in sittings(scale, tuple(options.threads))
        if sitting.comparison in options.only and sitting.context in (options.contexts or [sitting.context])
    ]


def _is_known(book: Book, sitting: Sitting) -> bool:
    return all(cell_of(sitting, entry) in book.records for entry in sitting.entries)


def _build_all(pending: Sequence[Sitting], options: argparse.Namespace) -> dict[str, Prepared]:
    """Each build in a process of its own, unless it is there already."""
    wanted = {entry.build.folder: entry.build for sitting in pending for entry in sitting.entries}
    ready = dict[str, Prepared]()

    def keep(build: Build, outcome: Prepared, seconds: float) -> None:
        ready[build.folder] = outcome
        error = "" if outcome.rel_err is None else f" rel_err {outcome.rel_err:.1e}"
        done = f"[{len(ready)}/{len(wanted)}] {build.folder}: {outcome.status}{error} in {seconds:.0f} s"
        _tell(done, "; ".join([outcome.reason, *outcome.absent.values()]))

    def make(build: Build) -> None:
        attempt_all(build_worker.job(options.builds), [build], keep, options.limit, 1)

    for folder, build in wanted.items():
        found = known(build, options.builds / folder, options.stale)
        if found is not None:
            ready[folder] = found
    missing = [build for folder, build in wanted.items() if folder not in ready]
    _tell(f"{len(missing)} of {len(wanted)} builds are missing", "")
    with ThreadPoolExecutor(options.jobs) as pool:
        # A list, so that an error comes through.
        list(pool.map(make, missing))
    return ready


def _time(book: Book, sitting: Sitting, ready: dict[str, Prepared], settings: Settings, limit_s: float) -> None:
    """One sitting in a process of its own; contenders that are not ready are recorded as such."""
    able = tuple(entry for entry in sitting.entries if _is_able(ready[entry.build.folder], sitting))
    timings = dict[tuple[str, str], Timing]()

    def keep(_: Sitting, outcome: Sat, seconds: float) -> None:
        for entry in able:
            label = entry.build.label
            lost = Timing(contender=entry.contender, model=label, status="failed", reason=outcome.reason)
            timings[entry.contender, label] = lost
        timings.update({(one.contender, one.model): one for one in outcome.timings})

    if able:
        cast = sitting.model_copy(update={"entries": able})
        attempt_all(time_worker.job(settings), [cast], keep, limit_s, sitting.threads)

    def timing(entry: Entry) -> Timing | None:
        return timings.get((entry.contender, entry.build.label))

    for entry in sitting.entries:
        prepared = ready[entry.build.folder]
        record = combine(sitting, entry, prepared, timing(entry), timing(sitting.reference))
        book.change(record.cell, lambda known, record=record: record)
        ratio = "" if record.wall_ratio is None else f" wall {record.wall_ratio:.3g} cpu {record.cpu_ratio:.3g}"
        speed = "" if record.tokens_per_second is None else f" {record.tokens_per_second:.4g} tokens/s"
        _tell(f"  {record.model} {record.contender}: {record.status}{speed}{ratio}", record.reason)


def _is_able(prepared: Prepared, sitting: Sitting) -> bool:
    return prepared.status == "ready" and sitting.mode not in prepared.absent


def _tell(what: str, reason: str) -> None:
    print(what, reason.strip("; "), flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.language.run", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--only", nargs="+", default=list(COMPARISONS), choices=COMPARISONS, metavar="COMPARISON")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], metavar="N", help="default: 1 2")
    parser.add_argument("--contexts", nargs="+", type=int, metavar="N", help="only these; default: all")
    parser.add_argument("--rounds", type=int, default=Plan.rounds, help=f"default: {Plan.rounds}")
    parser.add_argument("--limit", type=float, default=1800, metavar="SECONDS", help="of silence of a worker")
    parser.add_argument("--build", action="store_true", help="only build; time nothing")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="builds at a time (default: 1)")
    parser.add_argument("--stale", action="store_true", help="take builds that other sources of hycompile have made")
    parser.add_argument("--quick", action="store_true", help="tiny models, to see that everything runs")
    parser.add_argument("--fresh", action="store_true", help="forget what the results hold of the chosen cells")
    parser.add_argument("--render", action="store_true", help="only make README.md and the chart")
    parser.add_argument("--results", type=Path, metavar="FILE", help="default: results.json of this folder")
    parser.add_argument(
        "--builds", type=Path, default=default_root() / "benchmarks-language", metavar="FOLDER", help="where builds are"
    )
    return parser


if __name__ == "__main__":
    main()
