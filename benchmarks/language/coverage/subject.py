"""One model on its way to every target."""

from __future__ import annotations

import math
import tempfile
import time
from collections import Counter
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.language.coverage.records import PRECISION, Outcome

if TYPE_CHECKING:
    from hycompile.program import Program
    from hycompile.target import Target

DEVICE = "host"


class Subject:
    """What all attempts at a model share.

    Args:
        model: a registered name, whose script calls the methods that are built.
    """

    def __init__(self, model: str) -> None:
        self.model = model

    @cached_property
    def original(self) -> Program:
        """The methods of its script, as captured: the reference every artifact is held against."""
        from hycompile.compile import load_program

        program = load_program(self.model)
        called = {step.method for step in program.script}
        return replace(program, methods={name: one for name, one in program.methods.items() if name in called})

    @cached_property
    def program(self) -> Program:
        """After the passes of the device, which are not checked one by one: artifacts are held against the original."""
        from hycompile.device import load_target
        from hycompile.pipeline import Pipeline
        from hycompile.sharing import share

        program = self.original.copy()
        for step in Pipeline.parse(load_target(DEVICE).pipeline).passes:
            step.run(program, lambda program, report: None)
            share(program.methods.values())
        return program

    @cached_property
    def about(self) -> dict[str, Any]:
        """What every record of the model says."""
        from hycompile.storage import stored_bytes

        return {
            "program_weight_bytes": stored_bytes(self.program, state=False),
            "program_state_bytes": stored_bytes(self.program, state=True),
        }


def attempt(subject: Subject, target: str) -> Outcome:
    """One cell. Raises nothing of the HycompileError family: that becomes the outcome."""
    from hycompile.errors import HycompileError, Unsupported

    start = time.perf_counter()
    try:
        subject.about  # noqa: B018 - capture and passes come before the clock
        start = time.perf_counter()
        outcome = _emit(subject) if target == "linalg" else _build(subject, target)
    except HycompileError as error:
        refused = isinstance(error, Unsupported)
        seconds = time.perf_counter() - start
        return Outcome(status="refused" if refused else "failed", reason=str(error), seconds=seconds)
    return outcome.model_copy(update=subject.about)


def _build(subject: Subject, name: str) -> Outcome:
    from hycompile import registry
    from hycompile.cache import Cache
    from hycompile.lowering import lower_cached, refuse_missing, refuse_obstacles
    from hycompile.prove import TOLERANCE, prove

    target = _target(name)
    backend = registry.backend(name.partition("_")[0])
    refuse_missing(backend, target)
    start = time.perf_counter()
    refuse_obstacles(backend, backend.obstacles(subject.program, target))
    # A cache of its own: an artifact found ready would make `seconds` a lie.
    with tempfile.TemporaryDirectory(prefix="coverage-") as folder:
        artifact, _ = lower_cached(subject.program, backend, target, target.pipeline, Cache(Path(folder)))
        found: dict[str, Any] = artifact.manifest.facts
        about: dict[str, Any] = {
            "seconds": time.perf_counter() - start,
            "tools": artifact.manifest.tools,
            "weight_bytes": found.get("weight_bytes"),
            "state_bytes": found.get("state_bytes"),
            "outside": Counter(found["outside"]).total() if "outside" in found else None,
        }
        elsewhere = backend.cannot_run(target)
        if elsewhere is not None:
            return Outcome(status="built", reason=elsewhere, **about)
        error, allowed = prove(backend.open(artifact), subject.original), TOLERANCE[PRECISION[name]]
    about |= {"rel_err": error if math.isfinite(error) else None, "steps": len(subject.original.script)}
    if error <= allowed:
        return Outcome(status="proved", **about)
    reason = f"relative error {error:.2e}, allowed {allowed:.0e}"
    if PRECISION[name] == "fp16":
        reason += f"; PyTorch itself makes {_half_error(subject):.2e} in float16"
    return Outcome(status="failed", reason=reason, **about)


def _half_error(subject: Subject) -> float:
    """What rounding alone costs: the program after the passes, run by PyTorch in float16."""
    import torch

    from hycompile.generation.eager import EagerSession
    from hycompile.prove import prove

    return prove(EagerSession(subject.program.to(torch.float16)), subject.original)


def _emit(subject: Subject) -> Outcome:
    """Every method as MLIR on tensors; nothing here runs it."""
    from hycompile.emit import emit, parses

    start = time.perf_counter()
    texts = [emit(subject.program, "linalg", name) for name in subject.program.methods]
    seconds = time.perf_counter() - start
    if not all(parses(text, "linalg") for text in texts):
        return Outcome(status="failed", reason="the text does not parse again", seconds=seconds)
    return Outcome(status="emitted", reason="text, not run", seconds=seconds)


def _target(name: str) -> Target:
    from hycompile.device import load_target

    target = load_target(DEVICE)
    tensorrt = target.tensorrt.model_copy(update={"flavour": "tensorrt_rtx"})
    state = "arguments" if name == "coreml_arguments" else "buffers"
    coreml = target.coreml.model_copy(update={"state": state})
    return target.model_copy(update={"precision": PRECISION[name], "tensorrt": tensorrt, "coreml": coreml})
