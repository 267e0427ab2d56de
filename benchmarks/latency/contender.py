"""What every contender can do, whoever made it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

from benchmarks.latency.subject import Run, Subject


@dataclass(frozen=True)
class Options:
    """What all contenders of a run share.

    Args:
        pipeline: text of our own passes.
        litert_python: interpreter of the environment that has litert-torch.
        threads: threads for building; where a tool compiles them in, for executing too.
    """

    pipeline: str
    litert_python: Path
    threads: int


class Stopwatch:
    """Wall seconds, and CPU seconds of this process and the children it waited for (linkers, C++ compilers)."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def __enter__(self) -> Stopwatch:
        self._wall, self._cpu = time.perf_counter(), sum(os.times()[:4])
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.seconds, self.cpu_seconds = time.perf_counter() - self._wall, sum(os.times()[:4]) - self._cpu


@dataclass(frozen=True)
class Built:
    """What building cost, and what is known of the artifact; fields as in ``records.Prepared``."""

    build_seconds: float | None = None
    build_cpu_seconds: float | None = None
    passes_seconds: float | None = None
    delegates: int | None = None
    outside_ops: int | None = None


class Contender(Protocol):
    """One way to run a model."""

    def missing(self, options: Options) -> str | None:
        """None when it is installed; otherwise what is not, and how to get it."""
        ...

    def build(self, subject: Subject, folder: Path, options: Options) -> Built:
        """Write the artifact into an empty folder of its own; raises whatever the tool raises."""
        ...

    def open(self, subject: Subject, folder: Path, threads: int) -> Run:
        """Load what ``build`` wrote, in this or another process. The thread count may hold for the whole process."""
        ...
