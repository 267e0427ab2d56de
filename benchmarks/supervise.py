"""Runs workers so that a crash, a hang or memory gone costs one attempt: the rest go on in a new process."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TypeVar

from pydantic import BaseModel

from benchmarks.messages import Begun, Job

A = TypeVar("A")
O = TypeVar("O", bound=BaseModel)  # noqa: E741 - an outcome, beside an attempt
Keep = Callable[[A, O, float], None]
ROOT = Path(__file__).parents[1]


def attempt_all(job: Job[A, O], attempts: Sequence[A], keep: Keep[A, O], limit_s: float, threads: int) -> None:
    """Go through attempts that share a process as long as it lives.

    Args:
        job: the kind of work.
        attempts: in the order they are worked on.
        keep: told each attempt, its outcome, and the seconds it took in all.
        limit_s: a worker that says nothing for longer is ended.
        threads: intra-operator threads of a worker.
    """
    left = list(attempts)
    while left:
        with tempfile.TemporaryFile() as said:
            begun, how = _one_worker(job, left, keep, limit_s, threads, said)
            if not left:
                return
            # The attempt it died in; before the first one began, the first.
            lost = begun or left[0]
            left.remove(lost)
            keep(lost, job.lost(f"{how}{last_words(said)}"), 0.0)


def _one_worker(
    job: Job[A, O], left: list[A], keep: Keep[A, O], limit_s: float, threads: int, said: IO[bytes]
) -> tuple[A | None, str]:
    """Run a worker to its end, taking finished attempts out of ``left``; returns the one it died in, and how."""
    reading, writing = os.pipe()
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": python_path()}
    process = subprocess.Popen(
        job.command(left, writing), pass_fds=[writing], stdout=said, stderr=said, env=environment
    )
    os.close(writing)
    begun: A | None = None
    started, watchdog = time.perf_counter(), _Watchdog(process, limit_s)
    with os.fdopen(reading) as pipe:
        for line in pipe:
            watchdog.restart()
            message = job.read(line)
            if isinstance(message, Begun):
                begun, started = message.attempt, time.perf_counter()
            elif begun is not None:
                left.remove(begun)
                keep(begun, message.outcome, time.perf_counter() - started)
                begun = None
    code = process.wait()
    watchdog.stop()
    return begun, f"took more than {limit_s:.0f} s and was ended" if watchdog.expired else ending(code)


class _Watchdog:
    """Ends a process that says nothing for too long."""

    def __init__(self, process: subprocess.Popen[bytes], limit_s: float) -> None:
        self.process, self.limit_s, self.expired = process, limit_s, False
        self.timer = self._started()

    def restart(self) -> None:
        self.timer.cancel()
        self.timer = self._started()

    def stop(self) -> None:
        self.timer.cancel()

    def _started(self) -> threading.Timer:
        timer = threading.Timer(self.limit_s, self._end)
        timer.daemon = True
        timer.start()
        return timer

    def _end(self) -> None:
        self.expired = True
        self.process.kill()


def ending(code: int) -> str:
    """How a process ended, from its exit code as ``Popen.wait`` gives it."""
    if code >= 0:
        return f"the process ended with exit code {code}"
    name = signal.Signals(-code).name
    return f"the process was ended by {name}" + (", for want of memory it seems" if name == "SIGKILL" else "")


def last_words(said: IO[bytes]) -> str:
    """The last line the worker printed, which for a Python error is its message."""
    size = said.seek(0, os.SEEK_END)
    said.seek(max(0, size - 4000))
    lines = [line.strip() for line in said.read().decode(errors="replace").splitlines() if line.strip()]
    return f"; its last words: {lines[-1][:200]}" if lines else ""


def python_path() -> str:
    """Where a worker finds this package, whatever folder the benchmark was started from."""
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
