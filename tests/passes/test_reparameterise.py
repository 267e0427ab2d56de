"""The whole pass: which rule takes which batch norm, precisions, dynamic sizes, and what it promises."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hycompile.parity import execute, relative_error
from hycompile.passes.reparameterise import Reparameterise
from hycompile.pipeline import Pipeline
from hycompile.program import Program
from hycompile.reports import PipelineReport
from tests.passes.models import NextVitAttention
from tests.support import captured, count


class Hybrid(nn.Module):
    """A convolutional stem, a branch that is batch norm alone, and Next-ViT's attention."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.branch = nn.BatchNorm2d(4)
        self.attention = NextVitAttention()

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.attention(F.relu(x + self.branch(x)))


def _hits(report: PipelineReport) -> dict[str, int]:
    """Hits of the rules; removing what they leave unused is no rule."""
    rules = [rule for done in report.passes for rule in done.rules if rule.rule != "remove_unused_state"]
    return {rule.rule: rule.hits for rule in rules if rule.hits}


def _run(program: Program) -> tuple[Program, PipelineReport]:
    return Pipeline.parse("normalise,reparameterise")(program)


def test_every_batch_norm_goes_to_its_rule() -> None:
    program, report = _run(captured(Hybrid(), torch.randn(2, 3, 4, 4)))
    assert _hits(report) == {
        "fold_batch_norm_into_producer": 1,
        "fold_batch_norm_into_consumers": 2,
        "batch_norm_to_depthwise": 1,
        "merge_identity_into_convolution": 1,
    }
    assert count(program, "aten.batch_norm") == 0
    assert report.error_fp32 is not None
    assert report.error_fp64 is not None
    assert report.error_fp32 <= 1e-5
    assert report.error_fp64 <= 1e-12
    left = [refusal for done in report.passes for rule in done.rules for refusal in rule.refusals]
    assert left == []


def test_original_stays_as_it_is() -> None:
    program = captured(Hybrid(), torch.randn(2, 3, 4, 4))
    text, digest = program.text(), program.digest
    rewritten, _ = _run(program)
    assert (program.text(), program.digest) == (text, digest)
    assert rewritten.digest != digest


def test_float16_is_folded_in_more_than_float16() -> None:
    """Scales of 1e-4 and 1e+4 cancel in float32; a fold in float16 would lose the small weights altogether."""
    conv, norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
    program = captured(nn.Sequential(conv, norm), torch.randn(2, 3, 4, 4))
    with torch.no_grad():
        for name, tensor in program.tensors().items():
            tensor.mul_({"0.weight": 1e-4, "1.weight": 1e4, "0.bias": 1e-4, "1.running_mean": 1e-4}.get(name, 1.0))
            if name == "1.running_var":
                tensor.fill_(1.0)
    half = program.to(torch.float16)
    rewritten, report = _run(half)
    assert _hits(report) == {"fold_batch_norm_into_producer": 1}
    assert {tensor.dtype for tensor in rewritten.tensors().values()} == {torch.float16}
    wide = half.to(torch.float32)
    error = relative_error(execute(rewritten.methods["forward"]).outputs, execute(wide.methods["forward"]).outputs)
    assert error < 2e-3


def test_dynamic_batch_and_image() -> None:
    """Reshapes and permutes between batch norm and linear, with every size but the channels symbolic."""

    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.linear, self.after = nn.BatchNorm2d(4), nn.Linear(4, 6), nn.BatchNorm1d(6)

        def forward(self, x: Tensor) -> Tensor:
            x = self.norm(x.relu()).flatten(2).transpose(1, 2)
            x = self.linear(x)
            return self.after(x.flatten(0, 1)).reshape_as(x)

    sizes = {0: torch.export.Dim("n", min=1, max=8), 2: torch.export.Dim("h", min=2, max=16)}
    program = captured(Tokens(), torch.randn(2, 4, 3, 5), dynamic_shapes=(sizes,))
    rewritten, report = _run(program)
    assert _hits(report) == {
        "fold_batch_norm_into_producer": 1,
        "fold_batch_norm_into_consumers": 1,
        "merge_reshapes": 1,
    }
    other = (torch.randn(5, 4, 7, 5),)
    expected = execute(program.methods["forward"], other).outputs
    assert relative_error(execute(rewritten.methods["forward"], other).outputs, expected) < 1e-5
    assert relative_error([rewritten.methods["forward"].export().module()(*other)], expected) < 1e-5


def test_batch_norm_between_split_and_linear_operators() -> None:
    """A user with several outputs is no move: refused, then the batch norm stands alone."""

    class Split(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.conv = nn.BatchNorm2d(4), nn.Conv2d(2, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            first, second = self.norm(x.relu()).chunk(2, 1)
            return self.conv(first) + second

    program, report = _run(captured(Split(), torch.randn(2, 4, 3, 3)))
    assert _hits(report) == {"batch_norm_to_depthwise": 1}
    assert count(program, "aten.batch_norm") == 0


@pytest.mark.parametrize(
    ("norm", "reason"),
    [
        (nn.BatchNorm2d(4, track_running_stats=False), "normalises by the statistics of its batch"),
        (nn.BatchNorm2d(4), "its weight, bias or statistics are computed at run time"),
    ],
    ids=["batch_statistics", "computed_weight"],
)
def test_batch_norm_that_cannot_go_is_named(norm: nn.BatchNorm2d, reason: str) -> None:
    class Conditional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = norm

        def forward(self, x: Tensor) -> Tensor:
            weight = norm.weight if norm.running_mean is None else norm.weight * x.mean((0, 2, 3))
            training = norm.running_mean is None
            return F.batch_norm(x, norm.running_mean, norm.running_var, weight, norm.bias, training=training)

    program, report = _run(captured(Conditional(), torch.randn(2, 4, 3, 3)))
    assert count(program, "aten.batch_norm") == 1
    named = [refusal for rule in report.passes[1].rules for refusal in rule.refusals]
    refusals = [refusal for refusal in named if refusal.node.startswith("batch_norm")]
    assert refusals
    assert all(reason in refusal.reason for refusal in refusals)


def test_promise_is_checked() -> None:
    program = captured(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), torch.randn(1, 3, 2, 2))
    assert Reparameterise().ensures(program) == "batch norms left: batch_norm_default"
