"""Choosing rows or zeros on ExecuTorch: a product in the delegate, and when it stays a choice."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from hycompile.artifact import Artifact
from hycompile.backends.executorch import Executorch
from hycompile.backends.executorch.forms.choices import multiply_by_choice
from hycompile.capture import capture
from hycompile.parity import Proof, execute, relative_error
from hycompile.program import Program
from hycompile.rewrite import apply
from hycompile.text import graph_text

ROWS = torch.tensor([True, False, True, True, False]).reshape(5, 1)


class Filled(nn.Module):
    def forward(self, x: Tensor, rows: Tensor) -> Tensor:
        return torch.where(rows, x, torch.zeros_like(x)) + 1


def program(x: Tensor, rows: Tensor) -> Program:
    return capture(Filled().eval(), (x, rows))


def test_form(golden: Callable[[str, str, str], None]) -> None:
    for dtype in (torch.float64, torch.float32):
        rewritten = program(torch.randn(2, 3, 5, 4), ROWS).to(dtype)
        proof, before = Proof(rewritten), graph_text(rewritten.methods["forward"].graph)
        assert apply(multiply_by_choice, rewritten).hits == 1
        assert proof.check(rewritten, "choice", budget=0.0) == 0
    golden("multiply_by_choice/rows", before, graph_text(rewritten.methods["forward"].graph))


def test_no_choice_is_left_to_portable_kernels(build: Callable[..., Artifact]) -> None:
    given = program(torch.randn(2, 3, 5, 4), ROWS)
    artifact = build(given)
    assert "where" not in artifact.manifest.facts["outside"]  # type: ignore[operator]
    inputs = given.methods["forward"].flat_inputs()
    assert relative_error(Executorch().open(artifact).run(inputs), execute(given.methods["forward"]).outputs) == 0


@pytest.mark.parametrize(
    ("x", "rows", "reason"),
    [
        (torch.randn(5, 4), torch.ones(5, 4) > 0, "its condition has the shape [5, 4] of the result"),
        (torch.arange(20).reshape(5, 4), ROWS, "its values are torch.int64"),
        (torch.randn(1, 4), ROWS, "its values are [1, 4] and its result [5, 4]"),
    ],
)
def test_refusals(x: Tensor, rows: Tensor, reason: str) -> None:
    report = apply(multiply_by_choice, program(x, rows))
    assert report.hits == 0
    assert [refusal for refusal in report.refusals if reason in str(refusal)]
