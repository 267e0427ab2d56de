"""The process all contenders of one model are timed in, with one number of threads."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TextIO

from benchmarks.exports import one_line
from benchmarks.latency.build_worker import beyond
from benchmarks.latency.contender import Contender
from benchmarks.latency.contenders import BY_NAME
from benchmarks.latency.machine import Bystanders, count_flops, gemm_peak_gflops
from benchmarks.latency.records import REFERENCE, Cell, Timed, decode, encode
from benchmarks.latency.rounds import Samples, measure, paired_ratio
from benchmarks.latency.settings import Settings
from benchmarks.latency.subject import Run, Subject
from benchmarks.messages import Job
from hycompile.measure.conditions import Conditions, read_conditions, tool_versions
from hycompile.measure.statistics import median

_TOOLS = (
    "torch",
    "timm",
    "executorch",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "apache-tvm",
    "openvino",
    "ai-edge-litert",
)


def job(settings: Settings) -> Job[Cell, Timed]:
    """Timing of cells that share model and threads."""
    return Job("benchmarks.latency.time_worker", encode, decode, Timed, _lost, (settings.model_dump_json(),))


def _lost(reason: str) -> Timed:
    return Timed(status="failed", reason=reason)


class Opened:
    """The contenders of a sitting that are loaded and compute what the model computes."""

    def __init__(self) -> None:
        self.runs: dict[Cell, Run] = {}
        self.errors: dict[Cell, float] = {}

    def add(self, cell: Cell, contender: Contender, subject: Subject, settings: Settings) -> Timed | None:
        """Load one; what speaks against timing it, or None."""
        try:
            run = contender.open(subject, settings.artifact(cell.contender), cell.threads)
            error = subject.error(run)
        except Exception as error:  # noqa: BLE001 - whatever the runtime raises is the finding
            return Timed(status="failed", reason=f"does not run: {one_line(error)}")
        reason = beyond(error)
        if reason:
            return Timed(status="failed", reason=reason, rel_err=error if math.isfinite(error) else None)
        self.runs[cell], self.errors[cell] = run, error
        return None


def work(cells: Sequence[Cell], settings: Settings, pipe: TextIO) -> None:
    """Load all, run the rounds, and report one by one."""
    import torch

    task, threads = job(settings), cells[0].threads
    task.say_begun(pipe, cells[0])
    torch.set_num_threads(threads)
    subject = Subject(cells[0].model)
    flops, peak, opened = count_flops(subject.module, subject.args), gemm_peak_gflops(), Opened()
    for cell in cells:
        task.say_begun(pipe, cell)
        refused = opened.add(cell, BY_NAME[cell.contender], subject, settings)
        if refused is not None:
            task.say_done(pipe, refused)
    by_name = {cell.contender: cell for cell in opened.runs}
    subjects = {cell.contender: (lambda run=run: run(subject.inputs)) for cell, run in opened.runs.items()}
    bystanders = Bystanders()
    sampled = measure(subjects, settings.plan, lambda name: task.say_begun(pipe, by_name[name]))
    others = bystanders.processors()
    conditions = read_conditions(threads, settings.load_before, tool_versions(*_TOOLS))
    for cell in opened.runs:
        task.say_begun(pipe, cell)
        timed = judge(cell.contender, sampled, flops, peak, conditions)
        task.say_done(pipe, timed.model_copy(update={"rel_err": opened.errors[cell], "others_cpus": others}))


def judge(name: str, sampled: Mapping[str, Samples], flops: int, peak: float, conditions: Conditions) -> Timed:
    """One contender's samples beside the reference's of the same rounds."""
    mine, base = sampled[name], sampled.get(REFERENCE)
    cpu = paired_ratio(mine.cpu_ms, base.cpu_ms) if base is not None else None
    wall = paired_ratio(mine.wall_ms, base.wall_ms) if base is not None else None
    return Timed(
        status="timed",
        cpu_ratio=cpu and cpu.value,
        cpu_interval=cpu and cpu.interval,
        wall_ratio=wall and wall.value,
        wall_interval=wall and wall.interval,
        gflops=flops / median(mine.wall_ms) / 1e6,
        peak_gflops=peak,
        executions=mine.executions,
        preempted=mine.preempted,
        wall_ms=mine.wall_ms,
        cpu_ms=mine.cpu_ms,
        base_wall_ms=base and base.wall_ms,
        base_cpu_ms=base and base.cpu_ms,
        conditions=conditions,
    )


if __name__ == "__main__":
    with os.fdopen(int(sys.argv[1]), "w") as reports:
        work([decode(text) for text in sys.argv[3:]], Settings.model_validate_json(sys.argv[2]), reports)
