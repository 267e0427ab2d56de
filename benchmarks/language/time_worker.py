"""The process all contenders of one sitting are timed in."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import psutil

from benchmarks.exports import one_line
from benchmarks.language.builds import Strict
from benchmarks.language.ours import HycompileSession
from benchmarks.language.prepare import open_session, prompt
from benchmarks.language.records import Timing, timing_of
from benchmarks.language.rounds import Plan, Step, measure
from benchmarks.language.session import Session, Timed
from benchmarks.language.sittings import Entry, Sitting
from benchmarks.latency.machine import Bystanders
from benchmarks.messages import Job
from hycompile.measure.conditions import read_conditions, tool_versions

_TOOLS = ("torch", "transformers", "executorch", "torchao", "onnx", "onnxscript", "onnxruntime", "gguf")


class Settings(Strict):
    """Shared by all sittings of a run.

    Args:
        folder: of the builds.
        plan: how long and how often to measure.
        load_before: one-minute load average before the run began.
    """

    folder: Path
    plan: Plan
    load_before: float | None


class Sat(Strict):
    """What became of a sitting; ``reason`` is why there is nothing."""

    timings: tuple[Timing, ...] = ()
    reason: str = ""


def job(settings: Settings) -> Job[Sitting, Sat]:
    """Timing of sittings."""
    return Job(
        "benchmarks.language.time_worker",
        Sitting.model_dump_json,
        Sitting.model_validate_json,
        Sat,
        lambda reason: Sat(reason=reason),
        (settings.model_dump_json(),),
    )


def sit(sitting: Sitting, settings: Settings, at: Callable[[str], None]) -> Sat:
    """Load all, run the rounds, and say what each took."""
    import torch

    torch.set_num_threads(sitting.threads)
    opened, sessions, timings = dict[str, tuple[Entry, Step]](), list[Session](), list[Timing]()
    for number, entry in enumerate(sitting.entries):
        at(entry.contender)
        try:
            session = open_session(entry.build, settings.folder / entry.build.folder, sitting.threads)
            sessions.append(session)
            opened[str(number)] = entry, _step(sitting, entry, session)
        except Exception as error:  # noqa: BLE001 - whatever the runtime raises is the finding
            label = entry.build.label
            reason = f"does not run: {one_line(error)}"
            timings.append(Timing(contender=entry.contender, model=label, status="failed", reason=reason))
    bystanders, start = Bystanders(), (time.perf_counter(), _children_seconds())
    sampled = measure({name: step for name, (_, step) in opened.items()}, settings.plan, at)
    took, own = (now - then for now, then in zip((time.perf_counter(), _children_seconds()), start, strict=True))
    others = max(0.0, bystanders.processors() - own / took)
    conditions = read_conditions(sitting.threads, settings.load_before, tool_versions(*_TOOLS))
    timings += [timing_of(entry, sampled[name], others, conditions) for name, (entry, _) in opened.items()]
    for session in sessions:
        session.close()
    return Sat(timings=tuple(timings))


def _children_seconds() -> float:
    """Processor time of contenders in processes of their own."""
    return sum(sum(child.cpu_times()[:2]) for child in psutil.Process().children())


def _step(sitting: Sitting, entry: Entry, session: Session) -> Step:
    """One execution; for decoding, the cache is filled first."""
    build = entry.build
    tokens = prompt(build, sitting.context)
    if sitting.mode == "prefill":

        def prefill() -> Timed:
            session.reset()
            return session.prefill(tokens)

        return prefill
    if "prefill" in build.modes:
        session.prefill(tokens)
    elif isinstance(session, HycompileSession):
        session.skip_to(sitting.context - 1)
    return lambda: session.decode(tokens[-1])


def work(sittings: list[Sitting], settings: Settings, pipe: TextIO) -> None:
    """One sitting after the other; whoever is at work keeps the watchdog quiet."""
    task = job(settings)
    for sitting in sittings:
        task.say_begun(pipe, sitting)
        task.say_done(pipe, sit(sitting, settings, lambda _, sitting=sitting: task.say_begun(pipe, sitting)))


if __name__ == "__main__":
    with os.fdopen(int(sys.argv[1]), "w") as reports:
        chosen = [Sitting.model_validate_json(text) for text in sys.argv[3:]]
        work(chosen, Settings.model_validate_json(sys.argv[2]), reports)
