"""PyTorch itself: as it stands, and through ``torch.compile``."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.latency.contender import Built, Options, Stopwatch
from benchmarks.latency.subject import Run, Subject


class Eager:
    """The module, called."""

    def missing(self, options: Options) -> str | None:
        return None

    def build(self, subject: Subject, folder: Path, options: Options) -> Built:
        return Built()

    def open(self, subject: Subject, folder: Path, threads: int) -> Run:
        import torch

        torch.set_num_threads(threads)
        module = subject.peer_module
        return lambda inputs: subject.eager(inputs, module)


class TorchCompile:
    """Inductor with frozen weights; what it compiles lies in a cache beside the other artifacts.

    The number of threads is compiled in, so each has a cache of its own; building is the first execution.
    """

    def missing(self, options: Options) -> str | None:
        return None

    def build(self, subject: Subject, folder: Path, options: Options) -> Built:
        run = self.open(subject, folder, options.threads)
        import_module("torch._inductor.compile_fx")
        with Stopwatch() as whole:
            run(subject.inputs)
        return Built(whole.seconds, whole.cpu_seconds)

    def open(self, subject: Subject, folder: Path, threads: int) -> Run:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / f"threads-{threads}")
        # Compiles in this process, where its time is counted.
        os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
        import torch

        torch.set_num_threads(threads)
        compiled: Any = torch.compile(subject.peer_module, options={"freezing": True})
        return lambda inputs: subject.eager(inputs, compiled)
