"""What a build is asked for, and what tells one request from another."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hycompile import registry
from hycompile.cache import key
from hycompile.device import choose_target
from hycompile.errors import CaptureError, EvaluationError, PassError
from hycompile.quantisation.saved import holds_plan
from hycompile.target import Precision, Target

if TYPE_CHECKING:
    from hycompile.measure.sampling import Plan
    from hycompile.pipeline import Pass
    from hycompile.tuning.recipe import Recipe

_QUANTISE = re.compile(r"(?:^|,)\s*quantise\s*(?:[{,]|$)")


@dataclass(frozen=True)
class Request:
    """What a build is asked for.

    Args:
        source: a registered model, a ``.pt2`` file or ``package.module:function``.
        device: name of a device or path of a device file.
        runtimes: backend names; the device's own by default.
        pipeline: pipeline text; the device's own by default, none for a saved Program that is quantised.
        precision: the device's own by default; ``int8`` for a pipeline that quantises, and it adds ``quantise`` to one
            that does not.
        plan: how to measure latency; None measures nothing.
        prove: check every pass in float64 too.
        recipe: what ``hycompile tune`` chose; runtime, pipeline and precision are its own then.
        calibration: folder of samples, for ``int8``; see :func:`hycompile.quantisation.calibration.load_calibration`.
        evaluate: ``package.module:function`` that scores a model; see :mod:`hycompile.evaluation`.
        max_drop: by how much the score may be lower than the float model's; None if it is only told.
        keep: layers that ``quantise`` keeps in float, besides those that the pipeline names.
    """

    source: str
    device: str = "host"
    runtimes: Sequence[str] | None = None
    pipeline: str | None = None
    precision: Precision | None = None
    plan: Plan | None = None
    prove: bool = True
    recipe: Recipe | None = None
    calibration: Path | None = None
    evaluate: str | None = None
    max_drop: float | None = None
    keep: Sequence[str] = ()

    def target(self) -> Target:
        """The device as this request wants it.

        Raises:
            DeviceError: no such device, or the recipe is for another one.
            CaptureError: int8 without calibration data, or such data for another precision.
            EvaluationError: a budget that is none, or nothing to measure it by.
            PassError: layers to keep where nothing is quantised.
        """
        saved = holds_plan(self.source)
        if self.recipe is not None:
            target = self.recipe.apply(choose_target(self.device))
        elif saved:
            target = choose_target(self.device, self.precision or "int8", self.pipeline or "")
        else:
            target = choose_target(self.device, self.precision, self.pipeline)
            if self.precision in (None, "int8"):
                target = _quantised(target, self.runtime_names(target)[0])
        if self.keep:
            target = _keeping(target, self.keep)
        if self.max_drop is not None and (self.evaluate is None or not 0 <= self.max_drop < math.inf):
            reason = "is no budget" if self.evaluate is not None else "has nothing to measure by"
            raise EvaluationError(f"max_drop {self.max_drop:g}", reason, "give a number from 0 on, and --evaluate")
        calibrated = saved or self.calibration is not None
        if target.precision == "int8" and not calibrated and _calibrates(target.pipeline):
            raise CaptureError(
                "precision 'int8'", "needs calibration data: ranges cannot be known without", "give --calibration DIR"
            )
        if target.precision != "int8" and self.calibration is not None:
            raise CaptureError(
                f"calibration {str(self.calibration)!r}",
                f"has no use at {target.precision}, where nothing is quantised",
                "add --precision int8",
            )
        return target

    def runtime_names(self, target: Target) -> list[str]:
        """Backend names in the order they are built."""
        return [self.recipe.runtime] if self.recipe is not None else list(self.runtimes or target.runtimes)


def _quantised(target: Target, runtime: str) -> Target:
    """Precision and pipeline of the target made to fit one another; the first runtime has a say in the plan."""
    quantises = _QUANTISE.search(target.pipeline) is not None
    if quantises == (target.precision == "int8"):
        return target
    own: str = getattr(registry.backend(runtime), "quantise", "quantise")
    pipeline = target.pipeline if quantises else ",".join(filter(None, (target.pipeline, own)))
    return target.model_copy(update={"pipeline": pipeline, "precision": "int8"})


def _calibrates(pipeline: str) -> bool:
    """Whether some pass chooses by calibration data."""
    from hycompile.pipeline import Pipeline

    return any(getattr(step, "calibrates", False) for step in Pipeline.parse(pipeline).passes)


def _keeping(target: Target, keep: Sequence[str]) -> Target:
    """A pipeline whose ``quantise`` keeps these layers, too."""
    from hycompile.pipeline import Pipeline

    steps: list[Pass] = []
    changed = False
    for step in Pipeline.parse(target.pipeline).passes:
        if step.name == "quantise":
            known, changed = getattr(step, "keep", ""), True
            steps.append(replace(step, keep=",".join(filter(None, (known, *keep)))))
        else:
            steps.append(step)
    if not changed:
        raise PassError(f"--keep {keep[0]}", f"nothing is quantised at {target.precision}", "add --precision int8")
    return target.model_copy(update={"pipeline": str(Pipeline(tuple(steps)))})


def request_key(request: Request, target: Target) -> str | None:
    """What identifies a request without capturing; None for files and functions, whose code cannot be told apart so."""
    found = registry.find_model(request.source)
    if found is None or request.evaluate is not None:
        return None
    from hycompile.artifact import folder_digests

    family, name = found
    return key(
        model=family.identity(name),
        target=target.model_dump(mode="json"),
        runtimes=request.runtime_names(target),
        plan=vars(request.plan) if request.plan is not None else None,
        prove=request.prove,
        calibration=folder_digests(request.calibration) if request.calibration is not None else None,
    )
