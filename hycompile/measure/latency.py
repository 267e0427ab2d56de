"""Latency of an artifact: raw samples in milliseconds with the conditions they were taken under."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from hycompile import registry
from hycompile.device import open_device, open_session
from hycompile.errors import Unsupported
from hycompile.measure import memory
from hycompile.measure.conditions import Conditions, load_average, read_conditions, tool_versions
from hycompile.measure.sampling import Plan, Samples, Subject, sample
from hycompile.measure.statistics import Interval, median, median_interval, quantile

if TYPE_CHECKING:
    from torch import Tensor

    from hycompile.artifact import Artifact
    from hycompile.backend import Session


@dataclass(frozen=True)
class Latency:
    """One measurement. ``peak_mb`` is how far resident memory rose above its size before loading; None if unknown."""

    artifact: str
    backend: str
    device: str
    method: str
    samples: Samples
    load_ms: float
    peak_mb: float | None
    conditions: Conditions

    @property
    def median_ms(self) -> float:
        return median(self.samples.wall_ms)

    @property
    def interval_ms(self) -> Interval:
        """95 % confidence interval of the median wall time."""
        return median_interval(self.samples.wall_ms)

    @property
    def p90_ms(self) -> float:
        return quantile(self.samples.wall_ms, 0.90)

    @property
    def p99_ms(self) -> float:
        """With fewer than about 100 samples this is close to the slowest one."""
        return quantile(self.samples.wall_ms, 0.99)

    @property
    def cpu_median_ms(self) -> float:
        return median(self.samples.cpu_ms)

    def to_json(self) -> dict[str, Any]:
        """Summary, raw samples and conditions as JSON values."""
        return {
            "artifact": self.artifact,
            "backend": self.backend,
            "device": self.device,
            "method": self.method,
            "median_ms": self.median_ms,
            "interval_ms": list(self.interval_ms),
            "p90_ms": self.p90_ms,
            "p99_ms": self.p99_ms,
            "cpu_median_ms": self.cpu_median_ms,
            "load_ms": self.load_ms,
            "peak_mb": self.peak_mb,
            "preempted": self.samples.preempted,
            "warm_up_runs": self.samples.warm_up_runs,
            "stable": self.samples.stable,
            "samples_ms": list(self.samples.wall_ms),
            "cpu_samples_ms": list(self.samples.cpu_ms),
            "conditions": asdict(self.conditions),
        }


@dataclass(frozen=True)
class Loaded:
    """An artifact opened for measurement, with what loading cost."""

    artifact: Artifact
    session: Session
    load_ms: float
    resident_before_mb: float | None

    def subject(self, inputs: Sequence[Tensor], method: str) -> Subject:
        """One execution of ``method``, ready to be timed."""
        return lambda: self.session.run(inputs, method)

    def latency(self, samples: Samples, method: str, threads: int, load_before: float | None) -> Latency:
        """The measurement that ``samples`` of this artifact make."""
        peak = memory.peak_mb()
        grown = None if peak is None or self.resident_before_mb is None else peak - self.resident_before_mb
        tools = {**self.artifact.manifest.tools, **tool_versions("torch", "hycompile")}
        return Latency(
            artifact=str(self.artifact.folder),
            backend=self.artifact.backend,
            device="host",
            method=method,
            samples=samples,
            load_ms=self.load_ms,
            peak_mb=grown,
            conditions=read_conditions(threads, load_before, tools),
        )


def load(artifact: Artifact, threads: int) -> Loaded:
    """Open an artifact on this host, to be measured.

    Raises:
        Unsupported: its runtime is missing, it was built for another machine, or it has only a reference interpreter.
    """
    if not getattr(registry.backend(artifact.backend), "measurable", True):
        reason = "proved here by a reference interpreter, whose speed says nothing about the device"
        what = f"{artifact.backend} artifact for {artifact.target.name}"
        raise Unsupported(what, f"no latency: {reason}", "measure it on the device itself")
    resident = memory.resident_mb()
    memory.reset_peak()
    began = time.perf_counter()
    session = open_session(artifact, threads)
    return Loaded(artifact, session, (time.perf_counter() - began) * 1e3, resident)


def measure(
    artifact: Artifact,
    device: str = "host",
    *,
    inputs: Sequence[Tensor] | None = None,
    method: str | None = None,
    plan: Plan | None = None,
) -> Latency:
    """Measure one artifact.

    Args:
        artifact: what ``lower`` or ``Artifact.load`` gave.
        device: name of a device; only ``host`` is reachable without a transport.
        inputs: flat inputs in call order; random ones from the signature if omitted.
        method: which method; the only one, or ``forward``, if omitted.
        plan: how long and how often.

    Raises:
        Unsupported: the artifact cannot run there ("built, not run: ..."); a number is never made up.
        DeviceError: no such device.
    """
    plan = plan or Plan()
    method = method or default_method(artifact)
    return open_device(device).latency(artifact, inputs, method, plan)


def measure_on_host(artifact: Artifact, inputs: Sequence[Tensor] | None, method: str, plan: Plan) -> Latency:
    """Load, warm up and sample an artifact in this process; see ``measure``."""
    from hycompile.measure.inputs import random_inputs

    load_before = load_average()
    loaded = load(artifact, plan.threads)
    tensors = random_inputs(artifact.manifest.methods[method], {}) if inputs is None else tuple(inputs)
    samples = sample(loaded.subject(tensors, method), plan)
    return loaded.latency(samples, method, plan.threads, load_before)


def default_method(artifact: Artifact) -> str:
    """``forward`` where there is one, else the first method of the manifest."""
    methods = artifact.manifest.methods
    return "forward" if "forward" in methods else next(iter(methods))
