"""Passes and pipelines: ``normalise,reparameterise,quantise{bits=8}`` as text, as objects, and as a proved run."""

from __future__ import annotations

import math
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from hycompile import registry
from hycompile.errors import PassError
from hycompile.lean import compile_now, compiled_when_called
from hycompile.options import QUOTED, make_pass, options_text
from hycompile.parity import Proof
from hycompile.program import Program
from hycompile.reports import PassReport, PipelineReport, RuleReport
from hycompile.rewrite import Rule, apply
from hycompile.sharing import share

Check = Callable[[Program, RuleReport], None]
_ROUNDS = 100
_ITEM = re.compile(rf'\s*([\w-]+)\s*(?:\{{((?:{QUOTED}|[^{{}}"])*)\}})?\s*(?:,|$)')


@dataclass(frozen=True)
class Pass(ABC):
    """One step of a pipeline. Subclasses are frozen dataclasses whose fields are options: str, int, float or bool.

    ``requires`` names passes that must stand earlier in the pipeline. ``budget`` is the relative error a lossy pass
    declares; None means exact, held to rounding, and infinity that it measures and refuses itself. ``calibrated`` says
    that an exact pass reads the calibration set. ``choices`` names options whose values change speed and nothing else,
    with the values worth measuring (``hycompile tune``).
    """

    name: ClassVar[str]
    requires: ClassVar[tuple[str, ...]] = ()
    budget: ClassVar[float | None] = None
    calibrated: ClassVar[bool] = False
    choices: ClassVar[Mapping[str, tuple[str | int | bool, ...]]] = {}

    @abstractmethod
    def run(self, program: Program, check: Check) -> list[RuleReport]:
        """Rewrite ``program`` in place. Call ``check(program, report)`` after each step that changed it."""

    @classmethod
    def budget_text(cls) -> str | None:
        """The budget in words; None for an exact pass."""
        if cls.budget is None:
            return None
        return "as its options say" if math.isinf(cls.budget) else f"at most {cls.budget}"

    def ensures(self, program: Program) -> str | None:
        """None when the pass's promise holds for its result, otherwise what is broken."""
        return None

    def __str__(self) -> str:
        options = options_text(self)
        return f"{self.name}{{{options}}}" if options else self.name


class RulePass(Pass):
    """A pass that is a set of rules, applied in order, again until none of them hits."""

    rules: ClassVar[tuple[Rule, ...]] = ()

    def chosen(self) -> tuple[Rule, ...]:
        """The rules that the options of this pass ask for; all by default."""
        return self.rules

    def run(self, program: Program, check: Check) -> list[RuleReport]:
        rules = self.chosen()
        reports = {rule.name: RuleReport(rule.name) for rule in rules}
        hit, rounds = True, 0
        while hit:
            hit, rounds = False, rounds + 1
            if rounds > _ROUNDS:
                raise PassError(
                    f"pass {self.name!r}",
                    f"does not end: its rules still hit after {_ROUNDS} rounds",
                    "one of its rules undoes another: take it out",
                )
            for rule in rules:
                found, total = apply(rule, program), reports[rule.name]
                total.hits += found.hits
                total.seconds += found.seconds
                total.refusals = found.refusals
                if found.hits:
                    hit = True
                    check(program, total)
        return list(reports.values())


@dataclass(frozen=True)
class Pipeline:
    """A sequence of passes; callable on a Program. ``str`` gives the text that :meth:`parse` reads."""

    passes: tuple[Pass, ...]

    @classmethod
    def parse(cls, text: str) -> Pipeline:
        """Read ``name,name{option=value}``.

        Raises:
            PassError: unknown pass or option, a value of the wrong type, text that is no pipeline, a missing pass.
        """
        passes: list[Pass] = []
        position = 0
        while position < len(text):
            item = _ITEM.match(text, position)
            if item is None:
                raise PassError(
                    f"pipeline {text!r}", f"cannot be read at {text[position:][:20]!r}", "write name,name{option=value}"
                )
            passes.append(make_pass(registry.pass_class(item[1]), item[2] or ""))
            position = item.end()
        seen: set[str] = set()
        for step in passes:
            missing = [name for name in step.requires if name not in seen]
            if missing:
                raise PassError(
                    f"pass {step.name!r}",
                    f"needs {', '.join(missing)} earlier in the pipeline",
                    f"write {','.join([*missing, step.name])}",
                )
            seen.add(step.name)
        return cls(tuple(passes))

    def __str__(self) -> str:
        return ",".join(str(step) for step in self.passes)

    def __call__(
        self, program: Program, *, prove: bool = True, progress: Callable[[PassReport], None] | None = None
    ) -> tuple[Program, PipelineReport]:
        """Run every pass on a copy of ``program``.

        A Program on the meta device has no values to compare: its passes run, and the report's errors are None.

        Args:
            program: what to rewrite; it stays as it is.
            prove: also rewrite a float64 twin, where a wrong identity cannot hide behind rounding.
            progress: told of each pass when it is done.

        Raises:
            PassError: a pass broke its promise.
            ParityError: a rewrite changed what the model computes; the message names pass, rule and error.
        """
        with compiled_when_called():
            rewritten, report = self._run(program, prove, progress)
        for method in rewritten.methods.values():
            compile_now(method.graph)
        return rewritten, report

    def _run(
        self, program: Program, prove: bool, progress: Callable[[PassReport], None] | None
    ) -> tuple[Program, PipelineReport]:
        report, start = PipelineReport(str(self)), time.perf_counter()
        single = _Run(program.copy())
        twin = prove and single.proof is not None and single.proof.dtype == torch.float32
        calibrated = any(step.calibrated for step in self.passes)
        double = _twin(program, calibrated) if twin else None
        for step in self.passes:
            began = time.perf_counter()
            rules = single.apply(step)
            if double is not None and step.budget is not None:
                # No identity that more digits could prove: what follows is proved against its result.
                double = _twin(single.program, calibrated)
            elif double is not None:
                for mine, theirs in zip(rules, double.apply(step), strict=True):
                    mine.error_fp64 = theirs.error_fp32
            report.passes.append(PassReport(str(step), rules, time.perf_counter() - began))
            if progress is not None:
                progress(report.passes[-1])
        report.error_fp32 = single.error
        report.error_fp64 = double.error if double is not None and not single.lossy else None
        report.seconds = time.perf_counter() - start
        return single.program, report


class _Run:
    """One Program going through the passes, held against what it computed at the start if it has values at all.

    What follows a lossy pass is held against the result of that; ``error`` stays the one of the lossy pass.
    """

    def __init__(self, program: Program) -> None:
        self.program, self.lossy = program, False
        self.proof = None if program.on_meta else Proof(program)
        self.error = None if self.proof is None else 0.0

    def apply(self, step: Pass) -> list[RuleReport]:
        checked: list[RuleReport] = []

        def check(program: Program, report: RuleReport) -> None:
            if self.proof is not None:
                by = f"pass {step.name}, rule {report.rule}"
                report.error_fp32 = self.proof.check(program, by, step.budget)
                self.error = self.error if self.lossy else report.error_fp32
            checked.append(report)

        rules = step.run(self.program, check)
        share(self.program.methods.values())
        if self.proof is not None and not checked:
            error = self.proof.check(self.program, f"pass {step.name}", step.budget)
            self.error = self.error if self.lossy else error
        broken = step.ensures(self.program)
        if broken:
            raise PassError(
                f"pass {step.name!r}", f"broke its promise: {broken}", "report it with the model, or leave the pass out"
            )
        if step.budget is not None and self.proof is not None:
            self.proof, self.lossy = Proof(self.program), True
        return rules


def _twin(program: Program, calibrated: bool) -> _Run:
    """A float64 form; its calibration set, which may be large, only for passes that read it."""
    return _Run((program if calibrated else replace(program, calibration=())).to(torch.float64))
