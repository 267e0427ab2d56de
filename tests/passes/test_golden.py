"""Golden text before and after every rule and pass, with hit counts and parity in float32."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from hycompile.capture import export
from hycompile.parity import Proof, execute, relative_error
from hycompile.passes.fold_batch_norm.into_consumers import fold_batch_norm_into_consumers as consumers
from hycompile.passes.fold_batch_norm.into_producer import fold_batch_norm_into_producer as producer
from hycompile.passes.fold_batch_norm.standing_alone import batch_norm_to_depthwise as alone
from hycompile.passes.fold_constants import FoldConstants
from hycompile.passes.merge_reshapes import merge_reshapes
from hycompile.passes.remove_unused_state import RemoveUnusedState
from hycompile.program import Program
from hycompile.reports import RuleReport
from hycompile.rewrite import Rule, apply
from hycompile.text import graph_text
from tests.passes.models import (
    InSteps,
    LinearAfterPermute,
    LinearThroughFlatten,
    NextVitAttention,
    PositionTable,
    Raw,
    ReluThen,
    ThereAndBack,
)
from tests.support import captured, sane

IMAGE = (2, 4, 6, 6)
ROUNDING = 1e-5

RULES = [
    (producer, "conv", 1, lambda: nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6)), IMAGE),
    (producer, "grouped_conv", 1,
     lambda: nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.BatchNorm2d(6)), IMAGE),
    (producer, "depthwise_conv", 1,
     lambda: nn.Sequential(nn.Conv2d(4, 4, 3, groups=4, bias=False), nn.BatchNorm2d(4)), IMAGE),
    (producer, "strided_conv", 1,
     lambda: nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6)), IMAGE),
    (producer, "linear", 1, lambda: nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6)), (3, 4)),
    (producer, "conv_transpose", 1,
     lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 3, 2, groups=2, output_padding=1), nn.BatchNorm2d(6)), IMAGE),
    (producer, "linear_through_flatten", 1, LinearThroughFlatten, (2, 3, 4)),
    (producer, "two_batch_norms", 2,
     lambda: nn.Sequential(nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6), nn.BatchNorm2d(6)), IMAGE),
    (consumers, "pointwise_conv", 1, lambda: ReluThen(nn.BatchNorm2d(4), nn.Conv2d(4, 6, 1)), IMAGE),
    (consumers, "linear_after_permute", 1, LinearAfterPermute, IMAGE),
    (consumers, "next_vit", 2, NextVitAttention, (2, 4, 4, 4)),
    (consumers, "padded_conv", 1, lambda: ReluThen(nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, padding=1, stride=2)), IMAGE),
    (merge_reshapes, "there_and_back", 1, ThereAndBack, (2, 3, 4)),
    (merge_reshapes, "in_steps", 2, InSteps, (2, 3, 4)),
    (alone, "image", 1, lambda: ReluThen(nn.BatchNorm2d(4)), IMAGE),
    (alone, "features", 1, lambda: ReluThen(nn.BatchNorm1d(4, affine=False)), (3, 4)),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "case", "hits", "make", "shape"), RULES, ids=[f"{r[0].name}-{r[1]}" for r in RULES])
def test_rule(
    rule: Rule,
    case: str,
    hits: int,
    make: Callable[[], nn.Module],
    shape: tuple[int, ...],
    golden: Callable[[str, str, str], None],
) -> None:
    program = captured(make(), torch.randn(shape))
    proof, before = Proof(program), graph_text(program.methods["forward"].graph)
    report = apply(rule, program)
    assert report.hits == hits
    assert report.refusals == []
    assert proof.check(program, rule.name, budget=ROUNDING) <= ROUNDING
    golden(f"{rule.name}/{case}", before, graph_text(program.methods["forward"].graph))


def test_normalise(golden: Callable[[str, str, str], None]) -> None:
    model, image = sane(Raw()), torch.randn(2, 2, 2, 2)
    raw = export(model, (image,), {}, None).module(check_guards=False)
    program = captured(model, image)
    assert relative_error(execute(program.methods["forward"]).outputs, [model(image)]) < ROUNDING
    golden("normalise/raw", graph_text(raw), graph_text(program.methods["forward"].graph))  # type: ignore[arg-type]


def _checked(program: Program) -> Callable[[Program, RuleReport], None]:
    proof = Proof(program)
    return lambda rewritten, report: setattr(report, "error_fp32", proof.check(rewritten, report.rule, ROUNDING))


def test_fold_constants(golden: Callable[[str, str, str], None]) -> None:
    program = captured(PositionTable(), torch.randn(2, 2, 2))
    before = graph_text(program.methods["forward"].graph)
    (report,) = FoldConstants().run(program, _checked(program))
    assert (report.hits, report.error_fp32) == (3, 0.0)
    golden("fold_constants/position_table", before, graph_text(program.methods["forward"].graph))


class _WritesWithoutReading(nn.Module):
    last: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("last", torch.zeros(3))
        self.scale = nn.Parameter(torch.ones(3))
        self.spare = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        self.last.copy_(x)
        return x * self.scale + 0 * self.spare.detach().sum()


def test_remove_unused_state(golden: Callable[[str, str, str], None]) -> None:
    program = captured(_WritesWithoutReading(), torch.randn(3))
    graph = program.methods["forward"].graph.graph
    (total,) = (node for node in graph.nodes if node.name == "add")
    total.replace_all_uses_with(total.args[0])
    for name in ("add", "mul_1", "sum_1"):
        graph.erase_node(next(node for node in graph.nodes if node.name == name))
    before = graph_text(program.methods["forward"].graph)
    (report,) = RemoveUnusedState().run(program, _checked(program))
    assert report.hits == 1
    assert [refusal.reason for refusal in report.refusals] == [
        "state 'last' (3 values) is written but never read; its final value can be observed"
    ]
    method = program.methods["forward"]
    assert not hasattr(method.graph, "spare")
    assert hasattr(method.graph, "scale")
    assert hasattr(method.graph, "last")
    golden("remove_unused_state/weight_and_state", before, graph_text(method.graph))
