"""Our own side of a cell: capture and passes once a model, then lowering and proof for a backend and precision."""

from __future__ import annotations

import math
import tempfile
import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.coverage.records import Outcome, Precision

if TYPE_CHECKING:
    from hycompile.backend import Session
    from hycompile.program import Program
    from hycompile.reports import PipelineReport

DEVICE = "host"


class Subject:
    """One model on its way to several backends.

    Args:
        model: a registered name, a ``.pt2`` file or ``package.module:function``.
    """

    def __init__(self, model: str) -> None:
        self.model = model

    @cached_property
    def original(self) -> Program:
        """As captured: the reference every artifact is held against."""
        from hycompile.compile import load_program

        return load_program(self.model)

    @cached_property
    def passed(self) -> tuple[Program, PipelineReport]:
        """After the passes, each of them checked against the original in float32 and float64, and what they report."""
        from hycompile.device import load_target
        from hycompile.pipeline import Pipeline

        return Pipeline.parse(load_target(DEVICE).pipeline)(self.original)

    @cached_property
    def batch_norms_left(self) -> int:
        """Batch norms in the exported form of the rewritten program, of whatever ATen kind."""
        graphs = [method.export().graph for method in self.passed[0].methods.values()]
        return sum(
            "batch_norm" in str(node.target) for graph in graphs for node in graph.nodes if node.op == "call_function"
        )

    @property
    def batch_norms_reason(self) -> str:
        """Which rules refused the batch norms that are left, and why; empty if none is."""
        if not self.batch_norms_left:
            return ""
        rules = [rule for step in self.passed[1].passes for rule in step.rules if "batch_norm" in rule.rule]
        reasons = [f"{rule.rule}: {refusal.reason}" for rule in rules for refusal in rule.refusals]
        return "; ".join(dict.fromkeys(reasons)) or "no rule matched them"


def build(subject: Subject, backend: str, precision: Precision) -> Outcome:
    """Lower and prove one cell. Raises nothing of the HycompileError family: that becomes the outcome."""
    from hycompile import registry
    from hycompile.cache import Cache
    from hycompile.errors import HycompileError, Unsupported
    from hycompile.lowering import choose_target, lower_cached, refuse_missing, refuse_obstacles

    target = choose_target(DEVICE, precision)
    runtime = registry.backend("tensorrt" if backend == "tensorrt_rtx" else backend)
    target = target.model_copy(update={"tensorrt": target.tensorrt.model_copy(update={"flavour": "tensorrt_rtx"})})
    about: dict[str, Any] = {}
    built, start = False, time.perf_counter()
    try:
        refuse_missing(runtime, target)
        program, _ = subject.passed
        about["batch_norms_left"] = subject.batch_norms_left
        about["batch_norms_reason"] = subject.batch_norms_reason
        start = time.perf_counter()
        refuse_obstacles(runtime, runtime.obstacles(program, target))
        # A cache of its own: an artifact found ready would make `seconds` a lie, and twenty models' worth fills a disk.
        with tempfile.TemporaryDirectory(prefix="coverage-") as folder:
            artifact, _ = lower_cached(program, runtime, target, target.pipeline, Cache(Path(folder)))
            built, about["tools"], about["seconds"] = True, artifact.manifest.tools, time.perf_counter() - start
            elsewhere = runtime.cannot_run(target)
            if elsewhere is not None:
                return Outcome(status="built", reason=elsewhere, **about)
            return judge(runtime.open(artifact), subject.original, precision).model_copy(update=about)
    except HycompileError as error:
        status = "refused" if isinstance(error, Unsupported) and not built else "failed"
        about.setdefault("seconds", time.perf_counter() - start)
        return Outcome(status=status, reason=str(error), **about)


def judge(session: Session, original: Program, precision: Precision) -> Outcome:
    """Run an artifact beside the model: ``proved`` within the tolerance of its precision, ``failed`` beyond."""
    from hycompile.prove import TOLERANCE, prove

    error, allowed = prove(session, original), TOLERANCE[precision]
    shown = error if math.isfinite(error) else None
    if error <= allowed:
        return Outcome(status="proved", rel_err=shown)
    return Outcome(status="failed", rel_err=shown, reason=f"relative error {error:.2e}, allowed {allowed:.0e}")
