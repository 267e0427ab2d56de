"""The accuracy gate of a build: the user's evaluation on the float model, the quantised one and every artifact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from hycompile import registry
from hycompile.artifact import Artifact
from hycompile.errors import AccuracyError
from hycompile.evaluation import ArtifactRun, Evaluation, ProgramRun, Run
from hycompile.program import Program
from hycompile.reports import EvaluationReport


@dataclass
class Gate:
    """Scores what a build makes, and refuses what scores too low.

    Args:
        evaluation: the user's measure, with the score of the float model.
        simulation: the score of the quantised model; None if nothing was quantised.
    """

    evaluation: Evaluation
    simulation: float | None = None

    @classmethod
    def of(cls, name: str, function: Callable[[Run], float], max_drop: float | None, original: Program) -> Gate:
        """Score the float model.

        Raises:
            EvaluationError: the function raises, or returns no number.
        """
        evaluation = Evaluation(name, function, max_drop)
        return cls(replace(evaluation, reference=evaluation.score("the float model", ProgramRun(original))))

    def simulate(self, program: Program) -> None:
        """Score the quantised model.

        Raises:
            AccuracyError: it scores too low; the message names the layers to blame.
            EvaluationError: the function raises, or returns no number.
        """
        self.simulation = self.evaluation.score("the quantised model", ProgramRun(program))
        self._hold("the quantised model", self.simulation, program)

    def run(self, artifact: Artifact, program: Program) -> float:
        """Score an artifact; ``program`` is what it was lowered from.

        Raises:
            AccuracyError: it scores too low.
            EvaluationError: the function raises, or returns no number.
        """
        what, backend = f"the {artifact.backend} artifact", registry.backend(artifact.backend)
        score = self.evaluation.score(what, ArtifactRun(program, partial(backend.open, artifact)))
        self._hold(what, score, program)
        return score

    def report(self) -> EvaluationReport:
        """For the build report."""
        known = self.evaluation
        return EvaluationReport(known.name, known.reference, self.simulation, known.max_drop)

    def _hold(self, what: str, score: float, program: Program) -> None:
        if self.evaluation.exceeded(score):
            sensitivity = program.plan.sensitivity if program.plan is not None else None
            blame = f"; {sensitivity.blame()}" if sensitivity is not None else ""
            way_out = "keep layers in float (keep=auto), give more bits, or allow more"
            raise AccuracyError(what, f"{self.evaluation.verdict(score)}{blame}", way_out)
