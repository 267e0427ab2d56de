"""Golden text before and after the scale, norm and linear rules, with hits and parity in both precisions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from hycompile.parity import Proof
from hycompile.passes.cut_dead_rows import CutDeadRows
from hycompile.passes.fold_norm_affine import fold_norm_affine as norms
from hycompile.passes.fold_scale.identity import drop_identity_map as identity
from hycompile.passes.fold_scale.into_consumers import fold_scale_into_consumers as consumers
from hycompile.passes.fold_scale.into_producer import fold_scale_into_producer as producer
from hycompile.passes.merge_constants import MergeConstants
from hycompile.passes.merge_linears.constant_matmul import constant_matmul_to_linear as matmul
from hycompile.passes.merge_linears.in_series import merge_linears_in_series as series
from hycompile.passes.merge_linears.sum_of_linears import merge_low_rank_update as low_rank
from hycompile.passes.merge_linears.sum_of_linears import merge_sum_of_linears as sums
from hycompile.passes.merge_projections import merge_projections as projections
from hycompile.passes.move_before_upsample import move_conv_before_upsample as before_upsample
from hycompile.passes.move_before_upsample import move_linear_before_repeat as before_repeat
from hycompile.pipeline import Pass
from hycompile.program import Program
from hycompile.rewrite import Rule, apply
from hycompile.text import graph_text
from tests.passes.scale_models import Forward, Parts, attention, gated_memory, residual
from tests.support import captured

IMAGE, TOKENS = (2, 4, 5, 5), (2, 3, 4)
ROUNDING = {torch.float32: 1e-5, torch.float64: 1e-12}

RULES: list[tuple[Rule, str, int, Forward, tuple[int, ...]]] = [
    (identity, "sum_from_zero", 2, lambda m, x: (0 + m.conv(x)) * 1 - x.mean(), IMAGE),
    (producer, "layer_scale", 1, lambda m, x: m.image6 * m.conv(x), IMAGE),
    (producer, "residual", 1, residual, IMAGE),
    (producer, "grouped_conv", 1, lambda m, x: m.grouped(x) * m.image6, IMAGE),
    (producer, "conv_transpose", 1, lambda m, x: m.up(x) / m.image6, IMAGE),
    (producer, "number_through_reshape", 2, lambda m, x: -(m.linear(x).reshape(2, 3, 2, 3) / 8), TOKENS),
    (producer, "terms", 3, lambda m, x: 2 - (torch.add(m.grouped(x), m.image6, alpha=3) - 1), IMAGE),
    (producer, "positive_through_relu", 1, lambda m, x: m.linear(x).relu() * m.positive, TOKENS),
    (producer, "through_product", 1, lambda m, x: (m.linear(x) * x.mean()) * m.c6, TOKENS),
    (consumers, "padded_conv", 1, lambda m, x: m.padded(x.relu() * m.image4), IMAGE),
    (consumers, "grouped_and_transposed", 1, lambda m, x: (m.grouped(y := x * m.image4), m.up(y)), IMAGE),
    (consumers, "number_through_moves", 1, lambda m, x: m.linear((x / 8).permute(0, 2, 3, 1).reshape(2, 25, 4)), IMAGE),
    (consumers, "adaptive_scale", 2, lambda m, x: x + m.back(F.silu(m.linear(x * m.c4 + m.term4))), TOKENS),
    (consumers, "gated_memory", 1, gated_memory, TOKENS),
    (consumers, "class_token", 1, lambda m, x: m.linear((x * m.c4)[:, 0]) + m.other(x.mean(1)), TOKENS),
    (norms, "attention", 1, attention, TOKENS),
    (norms, "group_norm", 1, lambda m, x: m.conv(m.group_norm(x)), IMAGE),
    (norms, "rms_norm_before_product", 1, lambda m, x: m.linear(m.rms_norm(x) * x.sigmoid()), TOKENS),
    (norms, "mean_of_tokens", 1, lambda m, x: m.linear(m.layer_norm(x).mean(1)), TOKENS),
    (matmul, "matrix", 1, lambda m, x: x @ m.matrix, TOKENS),
    (series, "bottleneck", 1, lambda m, x: m.back(m.linear(x)), TOKENS),
    (sums, "two_heads", 1, lambda m, x: (m.linear(x) + m.other(x)) / 2, TOKENS),
    (low_rank, "adapter", 1, lambda m, x: m.linear(x) + m.up_again(m.down(x)), TOKENS),
    (low_rank, "adapter_first", 1, lambda m, x: m.up_again(m.down(x)) + m.linear(x), TOKENS),
    (projections, "three", 1, lambda m, x: (m.linear(x), m.down(x), m.other(x)), TOKENS),
    (before_upsample, "nearest", 1, lambda m, x: m.conv(F.interpolate(x, scale_factor=2)), IMAGE),
    (before_upsample, "bilinear", 1,
     lambda m, x: m.conv(F.interpolate(x, scale_factor=2, mode="bilinear")), IMAGE),
    (before_repeat, "interleaved", 1, lambda m, x: m.linear(x.repeat_interleave(2, 1)), TOKENS),
    (before_repeat, "expanded", 1, lambda m, x: m.linear(x[:, :1].relu().expand(2, 7, 4)), TOKENS),
    (before_repeat, "repeated", 1, lambda m, x: m.linear(x.repeat(1, 2, 1)), TOKENS),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "case", "hits", "make", "shape"), RULES, ids=[f"{r[0].name}-{r[1]}" for r in RULES])
def test_rule(
    rule: Rule,
    case: str,
    hits: int,
    make: Forward,
    shape: tuple[int, ...],
    golden: Callable[[str, str, str], None],
) -> None:
    program = captured(Parts(make), torch.randn(shape))
    before = graph_text(program.methods["forward"].graph)
    for dtype, rounding in ROUNDING.items():
        rewritten = program.to(dtype)
        proof, report = Proof(rewritten), apply(rule, rewritten)
        assert report.hits == hits
        assert report.refusals == []
        assert proof.check(rewritten, rule.name, budget=rounding) <= rounding
        if dtype == torch.float32:
            golden(f"{rule.name}/{case}", before, graph_text(rewritten.methods["forward"].graph))


def _split_without_queries(m: Parts, x: torch.Tensor) -> torch.Tensor:
    _, k, v = m.linear(x).chunk(3, -1)
    return k * v + m.other(x)[..., 4:]


class _Tables(Parts):
    """Two names for equal constants, and a third that differs in the sign of a zero."""

    def __init__(self) -> None:
        super().__init__(lambda m, x: (x + m.first) * m.second + m.third)  # type: ignore[operator]
        self.first, self.second, self.third = (torch.nn.Parameter(torch.tensor([0.0, 1.0, 2.0, 3.0])) for _ in "123")
        with torch.no_grad():
            self.third[0] = -0.0


PASSES: list[tuple[Pass, str, int, Callable[[], Parts]]] = [
    (CutDeadRows(), "split_and_slice", 2, lambda: Parts(_split_without_queries)),
    (MergeConstants(), "tables", 1, _Tables),
]


@pytest.mark.parametrize(("step", "case", "hits", "make"), PASSES, ids=[p[0].name for p in PASSES])
def test_pass(
    step: Pass, case: str, hits: int, make: Callable[[], Parts], golden: Callable[[str, str, str], None]
) -> None:
    program = captured(make(), torch.randn(TOKENS))
    before = graph_text(program.methods["forward"].graph)
    for dtype, rounding in ROUNDING.items():
        rewritten = program.to(dtype)
        (report,) = step.run(rewritten, _checked(rewritten, rounding))
        assert report.hits == hits
        assert report.error_fp32 is not None
        if dtype == torch.float32:
            golden(f"{step.name.replace('-', '_')}/{case}", before, graph_text(rewritten.methods["forward"].graph))


def _checked(original: Program, rounding: float) -> Callable[..., None]:
    proof = Proof(original)

    def check(program: Program, report: object) -> None:
        report.error_fp32 = proof.check(program, "test", rounding)  # type: ignore[attr-defined]

    return check
