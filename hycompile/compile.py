"""The main job: one model through capture, passes, every runtime of a device, proof and measurement."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from hycompile import registry
from hycompile.artifact import Artifact
from hycompile.cache import Cache, tool_versions
from hycompile.errors import AccuracyError, ArtifactError, EvaluationError, HycompileError
from hycompile.reports import BuildReport, RuntimeReport
from hycompile.request import Request, request_key
from hycompile.target import Target

if TYPE_CHECKING:
    from hycompile.evaluation import Run
    from hycompile.gate import Gate
    from hycompile.program import Program

_REPORT = TypeAdapter(BuildReport)
Progress = Callable[[str], None]


@dataclass
class _Build:
    request: Request
    target: Target
    cache: Cache
    progress: Progress
    function: Callable[[Run], float] | None = None
    gate: Gate | None = None
    eager: dict[str, object] | None = None
    started: float = field(default_factory=time.perf_counter)


def build(request: Request, *, cache: Cache | None = None, progress: Progress = lambda step: None) -> BuildReport:
    """Build a model for every runtime of a device; prove and measure what can run here.

    An identical request for a registered model is answered from the cache, artifacts verified, without building.

    Raises:
        HycompileError: the model, device, pipeline, a pass or the evaluation function is at fault. A runtime that
            refuses or fails does not raise, nor does a score that is too low: its row of the report says so.
    """
    job = _Build(request, request.target(), cache or Cache(), progress, _function(request))
    for runtime in _runtimes(job):
        registry.backend(runtime)
    name = request_key(request, job.target)
    known = _known(job, name) if name else None
    if known is not None:
        return known
    report = _build(job)
    if name and all(runtime.status in ("proved", "built") for runtime in report.runtimes):
        job.cache.store_report(name, _REPORT.dump_json(report).decode())
    return report


def load_program(source: str) -> Program:
    """Capture a registered model, a ``.pt2`` file or ``package.module:function``.

    Raises:
        CaptureError: nothing of that kind is there, or it cannot be captured.
    """
    from hycompile.capture import capture

    found = registry.find_model(source)
    if found is None:
        return capture(source)
    family, name = found
    built = family.build(name)
    program = capture(
        built.module,
        built.args,
        built.kwargs,
        dynamic_shapes=built.dynamic_shapes,
        methods=built.methods,
        script=built.script,
        name=source,
    )
    program.provenance |= {"family": family.name, "model": name, "identity": family.identity(name)}
    program.tokenizer = built.tokenizer.read_bytes() if built.tokenizer is not None else None
    return program


def _build(job: _Build) -> BuildReport:
    from hycompile.pipeline import Pipeline
    from hycompile.quantisation.report import quantisation_report

    pipeline = Pipeline.parse(job.target.pipeline)
    job.progress(f"capturing {job.request.source}")
    start = time.perf_counter()
    original = _calibrated(job, load_program(job.request.source))
    capture_seconds = time.perf_counter() - start
    original = _gated(job, original)
    job.progress(f"running {pipeline}")
    program, passes = pipeline(
        original, prove=job.request.prove, progress=lambda done: job.progress(f"{done.text}: {done.hits} hits")
    )
    runtimes = _refused(job, program) or [
        _runtime(job, name, original, program, str(pipeline)) for name in _runtimes(job)
    ]
    return BuildReport(
        source=job.request.source,
        device=job.target.name,
        program=program.name,
        digest=program.digest,
        pipeline=passes,
        runtimes=runtimes,
        graph_before=original.text(),
        graph_after=program.text(),
        capture_seconds=capture_seconds,
        seconds=time.perf_counter() - job.started,
        eager=job.eager,
        provenance=program.provenance,
        tools=tool_versions(),
        quantisation=quantisation_report(program) if program.plan is not None else None,
        evaluation=job.gate.report() if job.gate is not None else None,
    )


def _calibrated(job: _Build, program: Program) -> Program:
    """With its calibration data, which later errors must not come before."""
    if job.request.calibration is None:
        return program
    from hycompile.quantisation.calibration import load_calibration

    return replace(program, calibration=load_calibration(program, job.request.calibration))


def _function(request: Request) -> Callable[[Run], float] | None:
    """The evaluation function, which must be there before anything long is done."""
    if request.evaluate is None:
        return None
    from hycompile.evaluation import load_evaluation

    return load_evaluation(request.evaluate)


def _gated(job: _Build, original: Program) -> Program:
    """With the evaluation, and the float model's score by it, if there is one."""
    if job.function is None:
        return original
    from hycompile.gate import Gate

    job.progress("evaluating the float model")
    job.gate = Gate.of(str(job.request.evaluate), job.function, job.request.max_drop, original)
    return replace(original, evaluation=job.gate.evaluation)


def _refused(job: _Build, program: Program) -> list[RuntimeReport]:
    """A row for every runtime if the quantised model scores too low, and none otherwise: nothing is built then."""
    if job.gate is None or program.plan is None:
        return []
    job.progress("evaluating the quantised model")
    try:
        job.gate.simulate(program)
    except AccuracyError as error:
        return [RuntimeReport(name, "failed", job.target.precision, reason=str(error)) for name in _runtimes(job)]
    return []


def _runtimes(job: _Build) -> list[str]:
    return job.request.runtime_names(job.target)


def _runtime(job: _Build, name: str, original: Program, program: Program, pipeline: str) -> RuntimeReport:
    """Lower, prove and measure with one runtime; what goes wrong becomes its row."""
    from hycompile.lowering import lower_cached, refuse_missing, refuse_obstacles, refuse_precision

    backend = registry.backend(name)
    row, start = RuntimeReport(name, "refused", job.target.precision), time.perf_counter()
    try:
        refuse_missing(backend, job.target)
        refuse_precision(program, job.target)
        obstacles = backend.obstacles(program, job.target)
        row.obstacles = [f"{item.operator} (x{item.count}): {item.reason}" for item in obstacles]
        refuse_obstacles(backend, obstacles)
        job.progress(f"{name}: lowering")
        artifact, row.cached = lower_cached(program, backend, job.target, pipeline, job.cache)
        row.folder, row.size_bytes, row.facts = str(artifact.folder), artifact.size_bytes, artifact.manifest.facts
        reason = backend.cannot_run(job.target)
        if reason is not None:
            row.status, row.reason = "built", reason
        else:
            job.progress(f"{name}: proving")
            _prove(job, row, artifact, original, program)
    except EvaluationError:
        raise
    except AccuracyError as error:
        row.status, row.folder, row.size_bytes, row.reason = "failed", None, None, str(error)
    except HycompileError as error:
        row.status = "failed" if row.folder else "refused"
        row.reason = str(error)
    except Exception as error:  # noqa: BLE001 - one broken runtime must not cost the others their results
        row.status = "failed"
        row.reason = f"{name}: {type(error).__name__} ({' '.join(str(error).split())[:300]}); report it with the model"
    row.seconds = time.perf_counter() - start
    return row


def _prove(job: _Build, row: RuntimeReport, artifact: Artifact, original: Program, program: Program) -> None:
    """Run the artifact beside the original, or beside the quantised model; measure it only if it computes the same."""
    from hycompile.prove import prove, require_parity
    from hycompile.quantisation.prove import prove_quantised, require_simulation

    session, what = registry.backend(row.runtime).open(artifact), f"{row.runtime} artifact"
    if job.target.precision == "int8":
        proof = prove_quantised(session, program, original)
        row.rel_err, row.quantised = proof.artifact.worst_error, proof.facts()
        require_simulation(what, proof, "report it with the model")
    else:
        row.rel_err = prove(session, original)
        way_out = "`hycompile build --pipeline normalise` tells whether a pass or the runtime is at fault"
        require_parity(what, row.rel_err, job.target.precision, way_out)
    if job.gate is not None:
        job.progress(f"{row.runtime}: evaluating")
        row.score = job.gate.run(artifact, program)
    row.status = "proved"
    if job.request.plan is None:
        return
    from hycompile.measure.eager import measure_runtime

    job.progress(f"{row.runtime}: measuring")
    job.eager = measure_runtime(row, artifact, original, job.request.plan) or job.eager


def _known(job: _Build, name: str) -> BuildReport | None:
    """The report of an identical build, if every artifact it names is still whole."""
    text = job.cache.report(name)
    if text is None:
        return None
    try:
        report = _REPORT.validate_json(text)
        for row in report.runtimes:
            if row.folder is not None:
                Artifact.load(Path(row.folder))
            row.cached = True
    except (ArtifactError, ValidationError):
        return None
    report.cached, report.seconds = True, time.perf_counter() - job.started
    return report
