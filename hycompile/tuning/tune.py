"""Tunes a model for one runtime of a device: every form is built, proved, and timed beside the best until then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hycompile import registry
from hycompile.cache import Cache, tool_versions
from hycompile.compile import load_program
from hycompile.errors import HycompileError, Unsupported
from hycompile.lowering import lower_cached, refuse_missing, refuse_obstacles, refuse_precision
from hycompile.measure.compare import Ratio, compare
from hycompile.measure.conditions import load_average, read_conditions
from hycompile.measure.latency import default_method, load
from hycompile.measure.sampling import Plan
from hycompile.pipeline import Pipeline
from hycompile.prove import prove, require_parity
from hycompile.quantisation.calibration import load_calibration
from hycompile.quantisation.prove import prove_quantised, require_simulation
from hycompile.request import Request as BuildRequest
from hycompile.target import Precision, Target
from hycompile.tuning.choices import Choice, RuntimeChoice, choices_for
from hycompile.tuning.recipe import Evidence, Measured, Recipe, Trial
from hycompile.tuning.search import search

if TYPE_CHECKING:
    from hycompile.artifact import Artifact
    from hycompile.backend import Session
    from hycompile.program import Program

Progress = Callable[[str], None]
Keep = Callable[[Recipe], None]
# Taking a form for less would let the noise of a shared machine choose.
MARGIN = 0.01


@dataclass(frozen=True)
class Request:
    """What is tuned.

    Args:
        source: a registered model, a ``.pt2`` file or ``package.module:function``.
        device: name of a device or path of a device file.
        runtime: backend name; the device's first by default.
        precision: the device's own by default.
        plan: how to measure.
        calibration: folder of samples, for ``int8``.
    """

    source: str
    device: str = "host"
    runtime: str | None = None
    precision: Precision | None = None
    plan: Plan = field(default_factory=Plan)
    calibration: Path | None = None

    def target(self) -> Target:
        """The device as a build with this request would have it.

        Raises:
            DeviceError: no such device.
            CaptureError: int8 without calibration data, or such data for another precision.
        """
        return BuildRequest(self.source, self.device, precision=self.precision, calibration=self.calibration).target()


def tune(
    request: Request, *, cache: Cache | None = None, progress: Progress = lambda step: None, keep: Keep | None = None
) -> Recipe:
    """The fastest settings found, as a recipe.

    Args:
        request: what to tune.
        cache: where artifacts are kept; the user's cache folder by default.
        progress: told what is being done.
        keep: given the recipe after every trial, so that an interruption loses only what was being measured.

    Raises:
        HycompileError: the device file's own settings cannot be built, proved or measured here. A candidate that
            cannot only becomes a failed trial.
    """
    target = request.target()
    runtime = request.runtime or target.runtimes[0]
    _refuse_unmeasurable(runtime, target)
    bench = _Bench(request, runtime, cache or Cache(), progress)
    progress(f"building {request.source} as {target.name} has it")
    bench.artifact(target)
    best, trials = target, list[Trial]()
    for best, trial in search(target, choices_for(target, runtime), bench.judge):
        trials.append(trial)
        progress(_sentence(trial))
        if keep is not None:
            keep(_recipe(request, runtime, best, trials, None))
    ratio = None if best == target else bench.ratio(best, target)
    recipe = _recipe(request, runtime, best, trials, ratio)
    if keep is not None:
        keep(recipe)
    return recipe


def _refuse_unmeasurable(runtime: str, target: Target) -> None:
    backend = registry.backend(runtime)
    refuse_missing(backend, target)
    reason = backend.cannot_run(target)
    if reason is None and not getattr(backend, "measurable", True):
        reason = "built, not run: only a reference interpreter runs its artifacts here, whose speed says nothing"
    if reason is not None:
        way_out = "tune on the device itself; until then its device file decides"
        raise Unsupported(f"runtime {runtime!r} for device {target.name!r}", reason, way_out)


@dataclass
class _Bench:
    """Builds forms of one model and times them beside one another."""

    request: Request
    runtime: str
    cache: Cache
    progress: Progress
    programs: dict[str, Program] = field(default_factory=dict[str, "Program"])
    proved: set[str] = field(default_factory=set[str])
    original: Program = field(init=False)

    def __post_init__(self) -> None:
        self.progress(f"capturing {self.request.source}")
        self.original = load_program(self.request.source)
        if self.request.calibration is not None:
            samples = load_calibration(self.original, self.request.calibration)
            self.original = replace(self.original, calibration=samples)

    def judge(self, choice: Choice, candidate: Target, best: Target) -> Trial:
        """Whether the candidate is faster by more than the margin, with 95 % confidence."""
        value, instead = choice.read(candidate), choice.read(best)
        trial = Trial(choice=choice.name, value=value, instead_of=instead, outcome="left")
        self.progress(f"trying {choice.name}={value} instead of {instead}")
        try:
            if self.artifact(candidate).digest == self.artifact(best).digest:
                return trial.model_copy(update={"outcome": "same"})
            ratio = self.ratio(candidate, best)
        except HycompileError as error:
            return trial.model_copy(update={"outcome": "failed", "reason": str(error)})
        outcome = "taken" if ratio.interval.high < 1 - MARGIN else "left"
        return trial.model_copy(update={"outcome": outcome, "measured": _measured(ratio)})

    def artifact(self, target: Target) -> Artifact:
        """The model built with a target's settings, and proved.

        Raises:
            HycompileError: it cannot be built, or computes something else.
        """
        backend = registry.backend(self.runtime)
        if target.pipeline not in self.programs:
            self.programs[target.pipeline], _ = Pipeline.parse(target.pipeline)(self.original, prove=False)
        program = self.programs[target.pipeline]
        refuse_precision(program, target)
        refuse_obstacles(backend, backend.obstacles(program, target))
        artifact, _ = lower_cached(program, backend, target, target.pipeline, self.cache)
        if artifact.digest not in self.proved:
            self._prove(backend.open(artifact), program, target)
            self.proved.add(artifact.digest)
        return artifact

    def _prove(self, session: Session, program: Program, target: Target) -> None:
        what, way_out = f"{self.runtime} artifact", "report it with the model"
        if target.precision == "int8":
            require_simulation(what, prove_quantised(session, program, self.original), way_out)
        else:
            require_parity(what, prove(session, self.original), target.precision, way_out)

    def ratio(self, first: Target, second: Target) -> Ratio:
        """Time of one form over time of another, turn by turn."""
        threads = self.request.plan.threads
        subjects = [
            load(artifact, threads).subject(self.original.methods[method].flat_inputs(), method)
            for artifact in (self.artifact(first), self.artifact(second))
            for method in [default_method(artifact)]
        ]
        return compare(subjects[0], subjects[1], ("candidate", "best"), self.request.plan)


def _recipe(request: Request, runtime: str, best: Target, trials: list[Trial], ratio: Ratio | None) -> Recipe:
    conditions = read_conditions(request.plan.threads, load_average(), tool_versions())
    choices = [choice for choice in choices_for(best, runtime) if isinstance(choice, RuntimeChoice)]
    return Recipe(
        model=request.source,
        device=best.name,
        runtime=runtime,
        precision=best.precision,
        pipeline=best.pipeline,
        options={choice.key: choice.read(best) for choice in choices},
        evidence=Evidence(
            threads=request.plan.threads,
            cpu=conditions.cpu,
            taken_at=conditions.taken_at,
            tools=conditions.tools,
            measured=None if ratio is None else _measured(ratio),
        ),
        trials=tuple(trials),
    )


def _measured(ratio: Ratio) -> Measured:
    return Measured(ratio=ratio.ratio, interval=ratio.interval)


def _sentence(trial: Trial) -> str:
    cause = trial.reason if trial.measured is None else f"{trial.measured.ratio:.3f} of its time"
    outcome = f"{trial.outcome} ({cause})" if cause else trial.outcome
    return f"{trial.choice}={trial.value} instead of {trial.instead_of}: {outcome}"
