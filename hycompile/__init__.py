"""hycompile takes hybrid neural networks (convolution or state space with attention) to devices, proved and measured.

    import hycompile as hy

    program = hy.capture(model, (image,))
    program, report = hy.Pipeline.parse("normalise,reparameterise")(program)
    artifact = hy.lower(program, device="pixel-9")
    latency = hy.measure(artifact, device="host")

Names are imported when first used: ``import hycompile`` costs next to nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hycompile.artifact import Artifact as Artifact
    from hycompile.builder import Value as Value
    from hycompile.builder import call as call
    from hycompile.builder import edit as edit
    from hycompile.capture import Call as Call
    from hycompile.capture import capture as capture
    from hycompile.compile import build as build
    from hycompile.compile import load_program as load_program
    from hycompile.evaluation import ProgramRun as ProgramRun
    from hycompile.evaluation import Run as Run
    from hycompile.lowering import lower as lower
    from hycompile.measure.latency import measure as measure
    from hycompile.pipeline import Pass as Pass
    from hycompile.pipeline import Pipeline as Pipeline
    from hycompile.pipeline import RulePass as RulePass
    from hycompile.program import Method as Method
    from hycompile.program import Program as Program
    from hycompile.program import Step as Step
    from hycompile.quantisation.quantise import quantise as quantise
    from hycompile.request import Request as Request
    from hycompile.rewrite import require as require
    from hycompile.rewrite import rule as rule

_HOMES = {
    "Artifact": "artifact",
    "Call": "capture",
    "Method": "program",
    "Pass": "pipeline",
    "Pipeline": "pipeline",
    "Program": "program",
    "ProgramRun": "evaluation",
    "Request": "request",
    "RulePass": "pipeline",
    "Run": "evaluation",
    "Step": "program",
    "Value": "builder",
    "call": "builder",
    "capture": "capture",
    "edit": "builder",
    "load_program": "compile",
    "build": "compile",
    "lower": "lowering",
    "measure": "measure.latency",
    "quantise": "quantisation.quantise",
    "require": "rewrite",
    "rule": "rewrite",
}
__all__ = ["Artifact", "Call", "Method", "Pass", "Pipeline", "Program", "ProgramRun", "Request", "RulePass", "Run",
           "Step", "Value", "build", "call", "capture", "edit", "load_program", "lower", "measure", "quantise",
           "require", "rule"]  # fmt: skip


class _Package(ModuleType):
    """Keeps ``hycompile.capture`` and ``hycompile.measure`` functions, although modules of these names are imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'hycompile' has no attribute {name!r}")
    return getattr(import_module(f"hycompile.{_HOMES[name]}"), name)
