"""Our own contenders: captured, rewritten, and lowered by one of our backends."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.latency.contender import Built, Options, Stopwatch
from benchmarks.latency.subject import Run, Subject

DEVICE = "host"
# Imported before the clock starts, as for every other contender.
_LOWERING = {"executorch": "lowering", "onnx": "lower", "tvm": "lower"}


@dataclass(frozen=True)
class Hycompile:
    """One of our backends.

    Args:
        runtime: its name.
    """

    runtime: str

    def missing(self, options: Options) -> str | None:
        from hycompile import registry
        from hycompile.device import load_target

        return registry.backend(self.runtime).missing(load_target(DEVICE))

    def build(self, subject: Subject, folder: Path, options: Options) -> Built:
        """Through the same doors as ``hycompile build``, without the float64 proof and the report's survey."""
        from hycompile import registry
        from hycompile.cache import Cache
        from hycompile.compile import load_program
        from hycompile.device import choose_target
        from hycompile.lowering import lower_cached
        from hycompile.pipeline import Pipeline

        target, backend = choose_target(DEVICE, "fp32", options.pipeline), registry.backend(self.runtime)
        import_module(f"hycompile.backends.{self.runtime}.{_LOWERING[self.runtime]}")
        pipeline, program = Pipeline.parse(options.pipeline), load_program(subject.model)
        with Stopwatch() as whole:
            with Stopwatch() as passes:
                rewritten, _ = pipeline(program, prove=False)
            artifact, _ = lower_cached(rewritten, backend, target, options.pipeline, Cache(folder))
        facts: dict[str, Any] = artifact.manifest.facts
        outside: dict[str, int] | None = facts.get("outside")
        return Built(
            whole.seconds,
            whole.cpu_seconds,
            passes.seconds,
            facts.get("delegates"),
            None if outside is None else sum(outside.values()),
        )

    def open(self, subject: Subject, folder: Path, threads: int) -> Run:
        from hycompile import registry
        from hycompile.artifact import MANIFEST, Artifact

        artifact = Artifact.load(next(folder.rglob(MANIFEST)).parent)
        return registry.backend(self.runtime).open(artifact, threads).run
