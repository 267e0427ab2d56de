"""Quantise a Program in one call."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from hycompile.evaluation import Run
from hycompile.gate import Gate
from hycompile.pipeline import Pipeline
from hycompile.program import Program
from hycompile.quantisation.calibration import Sample, calibration
from hycompile.reports import PipelineReport


def quantise(
    program: Program,
    samples: Iterable[Sample],
    pipeline: str = "quantise",
    *,
    evaluate: Callable[[Run], float] | None = None,
    max_drop: float | None = None,
) -> tuple[Program, PipelineReport]:
    """Round weights and values of a Program to few bits; what comes out simulates every artifact made of it.

    Args:
        program: in float, usually the result of a pipeline.
        samples: calibration data: tensors for a method of one input, sequences of tensors, tensors by input name, or
            Steps.
        pipeline: text of the pass with its options (``quantise{bits=4,observer=mse}``), and of any before it.
        evaluate: scores a model, higher being better; see :mod:`hycompile.evaluation`.
        max_drop: by how much the score may be lower than the float model's; ``quantise{keep=auto}`` keeps the fewest
            layers in float that it takes.

    Raises:
        CaptureError: calibration data that is empty, does not fit, or holds NaN or infinity.
        PassError: calibration data that does not reach a value.
        ParityError: the outputs on the calibration set are farther off than ``min_sqnr`` allows.
        AccuracyError: the score is lower than ``max_drop`` allows; the message names the layers to blame.
        EvaluationError: the function raises, or returns no number.
    """
    program = replace(program, calibration=calibration(program, samples))
    if evaluate is None:
        return Pipeline.parse(pipeline)(program)
    name = getattr(evaluate, "__name__", type(evaluate).__name__)
    gate = Gate.of(name, evaluate, max_drop, program)
    quantised, report = Pipeline.parse(pipeline)(replace(program, evaluation=gate.evaluation))
    gate.simulate(quantised)
    return quantised, report
