"""Running the pass on a function of tokens, and what it has to say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from hycompile.capture import capture
from hycompile.macs import macs
from hycompile.parity import execute, relative_error
from hycompile.pipeline import Pipeline
from hycompile.program import Program
from hycompile.reports import RuleReport

Step = Callable[[Any, Tensor], Tensor | tuple[Tensor, ...]]


class Steps(nn.Module):
    """A function of a linear's result [2, 6, 8]; ``m`` has what the functions need."""

    def __init__(self, function: Step) -> None:
        super().__init__()
        self.function, self.linear = function, nn.Linear(8, 8)
        self.layer_norm, self.rms_norm, self.table = nn.LayerNorm(8), nn.RMSNorm(8), nn.Embedding(8, 3)
        self.conv, self.over_tokens = nn.Conv1d(8, 8, 3, padding=1), nn.LayerNorm([6, 8])
        self.register_buffer("key", torch.randn(2, 5, 8))
        self.register_buffer("seen", torch.ones(6, 5, dtype=torch.bool).tril(1))

    def forward(self, x: Tensor) -> Any:
        return self.function(self, self.linear(x))


def sunk(program: Program) -> tuple[Program, RuleReport]:
    """The Program after the pass; both precisions agree with the original to rounding."""
    rewritten, report = Pipeline.parse("sink-slices")(program)
    assert report.error_fp32 is not None
    assert report.error_fp32 <= 1e-5
    assert report.error_fp64 is not None
    assert report.error_fp64 <= 1e-12
    (rule,) = report.passes[0].rules
    return rewritten, rule


def sunk_steps(function: Step, **options: Any) -> tuple[Program, RuleReport]:
    return sunk(capture(Steps(function).eval(), (torch.randn(2, 6, 8),), **options))


def linear_macs(program: Program, method: str = "forward") -> int:
    return macs(program.methods[method].graph)["linear"]


def same_for(rewritten: Program, original: Program, *inputs: Tensor, method: str = "forward") -> bool:
    """Whether both compute the same for other inputs than the examples."""
    found, expected = (execute(program.methods[method], inputs) for program in (rewritten, original))
    return relative_error(found.outputs, expected.outputs) <= 1e-5
