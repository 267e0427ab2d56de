"""The forms XNNPACK's delegate takes: text before and after, equal values, and nothing left to portable kernels."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from hycompile.artifact import Artifact
from hycompile.backends.executorch import Executorch
from hycompile.backends.executorch.forms.attention import expand_attention
from hycompile.backends.executorch.forms.averages import (
    average_whole_image,
    drop_ceil_mode,
    expand_average_pool1d,
    expand_mean,
    expand_sum,
    pad_before_pool,
)
from hycompile.backends.executorch.forms.broadcasts import broadcast_operand
from hycompile.backends.executorch.forms.clamps import merge_clamps
from hycompile.backends.executorch.forms.group_norm import expand_image_norm
from hycompile.backends.executorch.forms.groups import split_groups
from hycompile.backends.executorch.forms.hard_sigmoid import expand_hardsigmoid
from hycompile.backends.executorch.forms.kernel_rows import split_kernel_rows
from hycompile.backends.executorch.forms.layer_norm import expand_channel_norm, expand_layer_norm
from hycompile.backends.executorch.forms.maxima import expand_amax
from hycompile.backends.executorch.forms.multipliers import split_depth_multiplier
from hycompile.backends.executorch.forms.pieces import slice_pieces
from hycompile.backends.executorch.forms.products import expand_matmul
from hycompile.backends.executorch.forms.scalars import float_scalars
from hycompile.backends.executorch.forms.steps import slice_in_groups
from hycompile.backends.executorch.forms.strided_rows import split_strided_rows
from hycompile.backends.executorch.forms.vector_norm import expand_vector_norm
from hycompile.backends.executorch.forms.wide_kernels import split_wide_depthwise
from hycompile.capture import capture
from hycompile.parity import Proof, execute, relative_error
from hycompile.program import Program
from hycompile.rewrite import Rule, apply
from hycompile.target import ExecutorchOptions
from hycompile.text import graph_text
from tests.backends.executorch.form_models import (
    Attention,
    ChannelNorm,
    DoubledChannels,
    ExpandedContext,
    Mean,
    Normalised,
    Pieces,
    Product,
    Sum,
    WholeNumbers,
)
from tests.high_ranks import Applied

Build = Callable[..., Artifact]
Golden = Callable[[str, str, str], None]

QKV = ((2, 3, 5, 4), (2, 3, 7, 4), (2, 3, 7, 6))
PARTLY = torch.zeros(5, 7).masked_fill(torch.ones(5, 7).triu(2).bool(), -math.inf)
IMAGE = ((2, 6, 8, 8),)
CHANNELS = ((2, 48, 6, 7),)


def _norm(norm: nn.LayerNorm | nn.GroupNorm) -> nn.Module:
    norm.weight.data, norm.bias.data = 0.5 + torch.rand_like(norm.weight), 0.1 * torch.randn_like(norm.bias)
    return norm


RULES: list[tuple[Rule, str, Callable[[], nn.Module], tuple[tuple[int, ...], ...]]] = [
    (expand_attention, "plain", Attention, QKV),
    (expand_attention, "scale_of_one", lambda: Attention(scale=1.0), QKV),
    (expand_attention, "bias_per_head", lambda: Attention(torch.randn(1, 3, 5, 7)), QKV),
    (expand_attention, "partly_masked", lambda: Attention(PARTLY), QKV),
    (expand_attention, "boolean_mask", lambda: Attention(PARTLY == 0), QKV),
    (expand_layer_norm, "tokens", lambda: _norm(nn.LayerNorm(6)), ((2, 5, 6),)),
    (expand_layer_norm, "without_weights", lambda: nn.LayerNorm(6, elementwise_affine=False), ((2, 5, 6),)),
    (expand_channel_norm, "image", ChannelNorm, IMAGE),
    (expand_image_norm, "image", lambda: _norm(nn.GroupNorm(1, 6)), IMAGE),
    (expand_matmul, "batches", Product, ((2, 3, 5, 4), (2, 3, 4, 6))),
    (expand_matmul, "by_a_matrix", Product, ((2, 3, 5, 4), (4, 6))),
    (expand_mean, "image", lambda: Mean((2, 3), False), IMAGE),
    (expand_mean, "tokens", lambda: Mean((1,), False), ((2, 5, 6),)),
    (expand_mean, "tokens_kept", lambda: Mean((1,), True), ((2, 5, 6),)),
    (expand_mean, "first_of_four", lambda: Mean((-3,), False), IMAGE),
    (expand_mean, "last", lambda: Mean((-1,), False), ((2, 5, 6),)),
    (expand_sum, "last", lambda: Sum(-1, False), ((2, 5, 6),)),
    (expand_sum, "tokens", lambda: Sum(1, False), ((2, 5, 6),)),
    (expand_sum, "first_of_four", lambda: Sum(1, False), IMAGE),
    (expand_sum, "channels_kept", lambda: Sum(1, True), IMAGE),
    (expand_sum, "last_kept", lambda: Sum(-1, True), ((2, 5, 6),)),
    (average_whole_image, "image", lambda: nn.AdaptiveAvgPool2d(1), IMAGE),
    (expand_amax, "pooled_queries", lambda: Applied(lambda x: x.amax(2)), ((2, 3, 4, 5, 6),)),
    (expand_amax, "kept", lambda: Applied(lambda x: x.amax(-1, keepdim=True)), ((2, 5, 6),)),
    (expand_hardsigmoid, "gate", nn.Hardsigmoid, ((2, 5, 6),)),
    (slice_in_groups, "even", lambda: Applied(lambda x: x[:, ::2]), ((2, 8, 8, 3),)),
    (slice_in_groups, "odd", lambda: Applied(lambda x: x[:, ::2]), ((2, 7, 7, 3),)),
    (slice_in_groups, "from_the_end", lambda: Applied(lambda x: x[..., -5:7:3]), ((2, 3, 8),)),
    (expand_average_pool1d, "tokens", lambda: nn.AvgPool1d(4), ((2, 3, 8),)),
    (drop_ceil_mode, "tiling", lambda: nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False), IMAGE),
    (pad_before_pool, "padded", lambda: nn.AvgPool2d(3, 2, 1), IMAGE),
    (split_depth_multiplier, "patch_embedding", DoubledChannels, IMAGE),
    (split_depth_multiplier, "without_bias", lambda: DoubledChannels(bias=False), IMAGE),
    (split_wide_depthwise, "seven", lambda: nn.Conv2d(6, 6, 7, padding=3, groups=6), IMAGE),
    (split_wide_depthwise, "nine_by_two", lambda: nn.Conv2d(6, 6, 9, 2, 4, groups=6, bias=False), IMAGE),
    (split_kernel_rows, "three_by_three", lambda: nn.Conv2d(48, 48, 3, padding=1), CHANNELS),
    (split_kernel_rows, "without_bias_or_padding", lambda: nn.Conv2d(48, 64, (2, 1), bias=False), CHANNELS),
    (split_kernel_rows, "one_row", lambda: nn.Conv2d(48, 48, (1, 3), padding=(0, 2)), CHANNELS),
    (split_kernel_rows, "padding_in_every_row", lambda: nn.Conv2d(48, 48, (2, 1), padding=(2, 0)), CHANNELS),
    (split_groups, "three", lambda: nn.Conv2d(96, 96, 3, padding=1, groups=3), ((2, 96, 6, 7),)),
    (split_groups, "without_bias", lambda: nn.Conv2d(64, 96, 3, groups=2, bias=False), ((1, 64, 6, 7),)),
    (split_strided_rows, "three_by_three", lambda: nn.Conv2d(24, 48, 3, 2, 1), ((2, 24, 8, 6),)),
    (split_strided_rows, "odd_image", lambda: nn.Conv2d(24, 48, 3, 2, 1, bias=False), ((2, 24, 7, 9),)),
    (split_strided_rows, "patches", lambda: nn.Conv2d(24, 48, 2, 2), ((2, 24, 7, 9),)),
    (split_strided_rows, "five_by_four", lambda: nn.Conv2d(24, 48, (5, 4), 2, (2, 1)), ((1, 24, 9, 8),)),
    (expand_vector_norm, "last", lambda: Normalised(-1), ((2, 5, 6),)),
    (expand_vector_norm, "tokens", lambda: Normalised(1), ((2, 5, 6),)),
    (merge_clamps, "relu_then_narrow", lambda: nn.Sequential(nn.ReLU(), nn.Hardtanh(-0.3, 0.3)), IMAGE),
    (merge_clamps, "narrow_then_relu", lambda: nn.Sequential(nn.Hardtanh(-0.3, math.inf), nn.ReLU()), IMAGE),
    (merge_clamps, "apart", lambda: nn.Sequential(nn.Hardtanh(-1.0, -0.5), nn.Hardtanh(0.25, 0.5)), IMAGE),
    (broadcast_operand, "context", ExpandedContext, (*IMAGE, (2, 6, 1, 1))),
]
IDS = [f"{rule.name}-{case}" for rule, case, *_ in RULES]


def _program(make: Callable[[], nn.Module], shapes: tuple[tuple[int, ...], ...]) -> tuple[Program, tuple[Tensor, ...]]:
    torch.manual_seed(0)
    inputs = tuple(torch.randn(shape) for shape in shapes)
    return capture(make().eval().requires_grad_(False), inputs), inputs


@pytest.mark.parametrize(("rule", "case", "make", "shapes"), RULES, ids=IDS)
def test_form(
    rule: Rule, case: str, make: Callable[[], nn.Module], shapes: tuple[tuple[int, ...], ...], golden: Golden
) -> None:
    program, _ = _program(make, shapes)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        rewritten = program.to(dtype)
        proof, before = Proof(rewritten), graph_text(rewritten.methods["forward"].graph)
        report = apply(rule, rewritten)
        assert report.hits == 1
        assert proof.check(rewritten, rule.name, budget=tolerance) <= tolerance
        if dtype == torch.float32:
            golden(f"{rule.name}/{case}", before, graph_text(rewritten.methods["forward"].graph))


@pytest.mark.parametrize(("rule", "case", "make", "shapes"), RULES, ids=IDS)
def test_form_is_delegated_whole(
    rule: Rule, case: str, make: Callable[[], nn.Module], shapes: tuple[tuple[int, ...], ...], build: Build
) -> None:
    program, inputs = _program(make, shapes)
    artifact = build(program, executorch=ExecutorchOptions(convolutions="rows"))
    assert (artifact.manifest.facts["delegates"], artifact.manifest.facts["outside"]) == (1, {})
    session = Executorch().open(artifact)
    assert relative_error(session.run(inputs), execute(program.methods["forward"], inputs).outputs) < 1e-5


@pytest.mark.parametrize(
    ("rewrite", "case", "make", "changes"),
    [(slice_pieces, "every_way", Pieces, 8), (float_scalars, "add_and_divide", WholeNumbers, 2)],
)
def test_program_form(
    rewrite: Callable[[Program], int], case: str, make: Callable[[], nn.Module], changes: int, golden: Golden
) -> None:
    program, _ = _program(make, ((6, 24),))
    proof, before = Proof(program), graph_text(program.methods["forward"].graph)
    assert rewrite(program) == changes
    assert proof.check(program, case, budget=1e-6) <= 1e-6
    golden(f"{rewrite.__name__}/{case}", before, graph_text(program.methods["forward"].graph))
