"""Quantise a Program in one call."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from hycompile.pipeline import Pipeline
from hycompile.program import Program
from hycompile.quantisation.calibration import Sample, calibration
from hycompile.reports import PipelineReport


def quantise(program: Program, samples: Iterable[Sample], pipeline: str = "quantise") -> tuple[Program, PipelineReport]:
    """Round weights and values of a Program to few bits; what comes out simulates every artifact made of it.

    Args:
        program: in float, usually the result of a pipeline.
        samples: calibration data: tensors for a method of one input, sequences of tensors, tensors by input name, or
            Steps.
        pipeline: text of the pass with its options (``quantise{bits=4,observer=mse}``), and of any before it.

    Raises:
        CaptureError: calibration data that is empty, does not fit, or holds NaN or infinity.
        PassError: calibration data that does not reach a value.
        ParityError: the outputs on the calibration set are farther off than ``min_sqnr`` allows.
    """
    return Pipeline.parse(pipeline)(replace(program, calibration=calibration(program, samples)))
