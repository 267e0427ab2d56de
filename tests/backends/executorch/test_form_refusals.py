"""One case for every refusal of a form, and one wrong variant of each idea that parity sees."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

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
from hycompile.backends.executorch.forms.group_norm import expand_image_norm
from hycompile.backends.executorch.forms.groups import split_groups
from hycompile.backends.executorch.forms.kernel_rows import split_kernel_rows
from hycompile.backends.executorch.forms.layer_norm import expand_channel_norm, expand_layer_norm
from hycompile.backends.executorch.forms.maxima import expand_amax
from hycompile.backends.executorch.forms.multipliers import split_depth_multiplier
from hycompile.backends.executorch.forms.products import expand_matmul
from hycompile.backends.executorch.forms.softplus import expand_softplus
from hycompile.backends.executorch.forms.steps import slice_in_groups
from hycompile.backends.executorch.forms.strided_rows import split_strided_rows
from hycompile.backends.executorch.forms.vector_norm import expand_vector_norm
from hycompile.backends.executorch.forms.wide_kernels import split_wide_depthwise
from hycompile.builder import Value, call
from hycompile.capture import capture
from hycompile.errors import ParityError
from hycompile.parity import Proof
from hycompile.pattern import Any, Arg, Call, Const
from hycompile.program import Program
from hycompile.rewrite import Rule, apply, require, rule
from hycompile.text import graph_text
from tests.backends.executorch.form_models import (
    Attention,
    CausalAttention,
    ChannelNorm,
    DoubledAndReturned,
    ExpandedAlone,
    GivenMask,
    Mean,
    Normalised,
    Product,
    Sum,
)
from tests.high_ranks import Applied

QKV = ((2, 3, 5, 4), (2, 3, 7, 4), (2, 3, 7, 6))
EMPTY_ROW = torch.zeros(5, 7).masked_fill(torch.eye(5)[0].bool()[:, None], -math.inf)
IMAGE = ((2, 6, 9, 9),)
CHANNELS = ((2, 48, 6, 7),)
HALF = torch.float16


def _refused(rule: Rule, make: Callable[[], nn.Module], shapes: tuple[tuple[int, ...], ...], **options: object) -> str:
    dtype = options.get("dtype", torch.float32)
    inputs = tuple(torch.randn(shape) for shape in shapes)
    program = capture(make().eval(), inputs, dynamic_shapes=options.get("dynamic_shapes"))
    program = program.to(dtype) if dtype != torch.float32 else program  # type: ignore[arg-type]
    before = graph_text(program.methods["forward"].graph)
    report = apply(rule, program)
    assert report.hits == 0
    assert graph_text(program.methods["forward"].graph) == before
    (refusal,) = report.refusals
    return refusal.reason


@pytest.mark.parametrize(
    ("rule", "make", "shapes", "dtype", "reason"),
    [
        (expand_attention, GivenMask, (*QKV, (5, 7)), None, "its mask mask is computed at run time"),
        (expand_attention, lambda: Attention(EMPTY_ROW), QKV, None, "mask masks all keys in 1 of 5 rows"),
        (expand_attention, Attention, ((2, 3, 5, 4), (1, 3, 7, 4), (1, 3, 7, 6)), None, "leading sizes"),
        (expand_layer_norm, lambda: nn.LayerNorm([5, 6]), ((2, 5, 6),), None, "it normalises over 2 axes"),
        (expand_layer_norm, lambda: nn.LayerNorm(6), ((2, 5, 6),), HALF, "in float16 the squares may leave the range"),
        (expand_channel_norm, ChannelNorm, IMAGE, HALF, "in float16 the squares may leave the range"),
        (expand_image_norm, lambda: nn.GroupNorm(1, 6), ((2, 6, 5),), None, "its input has 3 axes"),
        (expand_image_norm, lambda: nn.GroupNorm(1, 6), IMAGE, HALF, "in float16 the squares may leave the range"),
        (expand_matmul, Product, ((5, 4), (4, 6)), None, "its factors have ranks 2 and 2"),
        (expand_matmul, Product, ((2, 3, 5, 4), (3, 4, 6)), None, "its batches [2, 3] and [3] differ"),
        (expand_mean, lambda: Mean((2, 3), True), IMAGE, None, "it is a global average pooling"),
        (expand_mean, lambda: Mean((1, 2), False), ((2, 5, 6),), None, "it averages over axes [1, 2] of 3"),
        (expand_mean, lambda: Mean((1,), False), ((2, 5, 6),), HALF, "in float16 its sum may leave the range"),
        (expand_sum, lambda: Applied(lambda x: x.sum((1, 2))), ((2, 5, 6),), None, "it adds over axes [1, 2] of 3"),
        (average_whole_image, lambda: nn.AdaptiveAvgPool2d(1), ((6, 9, 9),), None, "its input has 3 axes"),
        (expand_amax, lambda: Applied(lambda x: x.amax((1, 2))), ((2, 5, 6),), None, "it looks along axes [1, 2]"),
        (expand_amax, lambda: Applied(lambda x: x.amax(1)), ((2, 17),), None, "its axis has 17 values, more than 16"),
        (slice_in_groups, lambda: Applied(lambda x: x[:, 1:]), ((2, 5, 6),), None, "its step is 1"),
        (slice_in_groups, lambda: Applied(lambda x: x[:, ::2]), ((1, 4, 1, 1, 1, 1),), None, "it has 6 dimensions"),
        (expand_sum, lambda: Sum(-1, False), ((2, 5, 6),), HALF, "in float16 its sum may leave the range"),
        (expand_average_pool1d, lambda: nn.AvgPool1d(4), ((2, 3, 9),), None,
         "windows of 4 with stride [4] and padding [0] do not tile 9"),
        (expand_average_pool1d, lambda: nn.AvgPool1d(4), ((2, 3, 8),), HALF, "in float16 its sum may leave the range"),
        (drop_ceil_mode, lambda: nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False), IMAGE, None,
         "[1, 1] positions are left for a partial window"),
        (pad_before_pool, lambda: nn.AvgPool2d(3), IMAGE, None, "it has no padding"),
        (split_depth_multiplier, lambda: nn.Conv2d(6, 12, 3, groups=2), IMAGE, None,
         "it has 3 inputs and 6 outputs a group"),
        (split_depth_multiplier, DoubledAndReturned, IMAGE, None,
         "aten.add.Tensor reads its channels and is no dense convolution of constant weight"),
        (split_wide_depthwise, lambda: nn.Conv2d(6, 6, 7, padding=3), IMAGE, None, "it is no depthwise convolution"),
        (split_wide_depthwise, lambda: nn.Conv2d(6, 6, (7, 5), groups=6), IMAGE, None, "its kernel is 7 x 5"),
        (split_wide_depthwise, lambda: nn.Conv2d(6, 6, 7, groups=6), IMAGE, None, "its padding is [0, 0], not 3"),
        (split_wide_depthwise, lambda: nn.Conv2d(6, 6, 13, padding=6, groups=6), IMAGE, None,
         "two rows of its kernel have 26 taps, 25 fit"),
        (split_kernel_rows, lambda: nn.Conv2d(48, 48, 1), CHANNELS, None, "it has one tap"),
        (split_kernel_rows, lambda: nn.Conv2d(48, 48, (1, 6)), CHANNELS, None, "its kernel has 6 columns"),
        (split_kernel_rows, lambda: nn.Conv2d(3, 48, 3), ((1, 3, 6, 7),), None, "it has 3 input channels"),
        (split_kernel_rows, lambda: nn.Conv2d(48, 24, 3), CHANNELS, None, "it has 24 output channels, fewer than 32"),
        (split_kernel_rows, lambda: nn.Conv2d(64, 32, 3), ((1, 64, 6, 7),), None, "it has 32 outputs for 64 inputs"),
        (split_kernel_rows, lambda: nn.Conv2d(48, 48, (9, 1), padding=(2, 0)), CHANNELS, None,
         "a row of its kernel sees nothing but padding"),
        (split_kernel_rows, lambda: nn.Conv2d(48, 48, 3), CHANNELS, HALF, "it computes in float16"),
        (split_groups, lambda: nn.Conv2d(48, 48, 3), CHANNELS, None, "it has 1 groups"),
        (split_groups, lambda: nn.Conv2d(64, 64, 1, groups=2), ((1, 64, 6, 7),), None, "it has one tap"),
        (split_groups, lambda: nn.Conv2d(48, 48, 3, groups=3), CHANNELS, None, "its groups have 16 channels"),
        (split_strided_rows, lambda: nn.Conv2d(48, 48, (1, 3), 2), CHANNELS, None, "its kernel is 1 by 3"),
        (split_strided_rows, lambda: nn.Conv2d(48, 48, (2, 6), 2), CHANNELS, None, "its kernel has 6 columns"),
        (split_strided_rows, lambda: nn.Conv2d(3, 48, 3, 2), ((1, 3, 6, 7),), None, "it has 3 input channels, fewer"),
        (split_strided_rows, lambda: nn.Conv2d(24, 32, 3, 2), ((1, 24, 6, 7),), None, "it has 32 outputs for 24"),
        (split_strided_rows, lambda: nn.Conv2d(48, 48, 3, 2), CHANNELS, HALF, "it computes in float16"),
        (expand_vector_norm, lambda: Normalised(-1, 1.0), ((2, 5, 6),), None, "its order is 1"),
        (expand_vector_norm, lambda: Normalised(-1), ((2, 5, 6),), HALF, "in float16 the squares may leave the range"),
        (expand_softplus, lambda: nn.Softplus(beta=2), ((2, 5, 6),), None, "its sharpness is 2"),
        (expand_softplus, lambda: nn.Softplus(threshold=8), ((2, 5, 6),), None, "it is the identity from 8"),
        (broadcast_operand, ExpandedAlone, (*IMAGE, (2, 6, 1, 1)), None, "comes from the expansion"),
    ],
)  # fmt: skip
def test_refusal(
    rule: Rule,
    make: Callable[[], nn.Module],
    shapes: tuple[tuple[int, ...], ...],
    dtype: torch.dtype | None,
    reason: str,
) -> None:
    assert reason in _refused(rule, make, shapes, dtype=dtype or torch.float32)


LENGTH = torch.export.Dim("length", min=2, max=32)


@pytest.mark.parametrize(
    ("rule", "make", "shapes", "dynamic", "reason"),
    [
        (expand_attention, Attention, QKV, (None, {2: LENGTH}, {2: LENGTH}), "are not all fixed"),
        (expand_matmul, Product, ((2, 3, 5, 4), (2, 3, 4, 6)), ({2: LENGTH}, None), "are not all fixed"),
        (expand_mean, lambda: Mean((1,), False), ((2, 5, 6),), ({1: LENGTH},), "are not all fixed"),
        (expand_sum, lambda: Sum(-1, False), ((2, 5, 6),), ({2: LENGTH},), "are not all fixed"),
        (expand_amax, lambda: Applied(lambda x: x.amax(1)), ((2, 5, 6),), ({1: LENGTH},), "are not all fixed"),
        (slice_in_groups, lambda: Applied(lambda x: x[:, ::2]), ((2, 5, 6),), ({2: LENGTH},), "are not all fixed"),
        (expand_vector_norm, lambda: Normalised(1), ((2, 5, 6),), ({1: LENGTH},), "are not all fixed"),
        (expand_image_norm, lambda: nn.GroupNorm(1, 6), IMAGE, ({2: LENGTH},), "are not all fixed"),
        (split_kernel_rows, lambda: nn.Conv2d(48, 48, 3, padding=1), CHANNELS, ({2: LENGTH},), "are not all fixed"),
        (split_strided_rows, lambda: nn.Conv2d(48, 48, 3, 2, 1), CHANNELS, ({0: LENGTH},), "are not all fixed"),
        (split_groups, lambda: nn.Conv2d(64, 64, 3, groups=2), ((2, 64, 6, 7),), ({0: LENGTH},), "are not all fixed"),
    ],
)
def test_dynamic_refusal(
    rule: Rule, make: Callable[[], nn.Module], shapes: tuple[tuple[int, ...], ...], dynamic: object, reason: str
) -> None:
    assert reason in _refused(rule, make, shapes, dynamic_shapes=dynamic)


def test_causal_attention_is_left_alone() -> None:
    program = capture(CausalAttention().eval(), tuple(torch.randn(shape) for shape in QKV))
    report = apply(expand_attention, program)
    assert (report.hits, report.refusals) == (0, [])


@rule(
    Call("aten.layer_norm", name="norm", input=Any("x"), normalized_shape=Arg("over"), eps=Arg("eps")),
    source="a mistake: the variance of what was not centred",
)
def norm_without_centring(norm: Value, x: Value, over: list[int], eps: float) -> Value:
    """layer_norm(x) = x / sqrt(mean(x^2) + eps), which is an RMS norm."""
    ones = torch.full((1, over[0]), 1 / over[0])
    variance = call("aten.linear", call("aten.mul.Tensor", x, x), ones)
    return call("aten.mul.Tensor", x, call("aten.rsqrt", call("aten.add.Tensor", variance, eps)))


@rule(
    Call("aten.scaled_dot_product_attention", query=Any("q"), key=Any("k"), value=Any("v")),
    source="a mistake: the scale is forgotten",
)
def attention_without_scale(q: Value, k: Value, v: Value) -> Value:
    """softmax(q k^T) v, which lacks 1/sqrt(d)."""
    logits = call("aten.matmul", q, call("aten.transpose.int", k, -2, -1))
    return call("aten.matmul", call("aten.softmax.int", logits, -1), v)


@rule(
    Call("aten.avg_pool2d", name="pool", self=Any("x"), count_include_pad=True),
    source="a mistake: padding that no longer counts",
)
def pool_without_padding_counted(pool: Value, x: Value) -> Value:
    """avg_pool2d(x, counted) = avg_pool2d(x, not counted), which differs at the borders."""
    return call("aten.avg_pool2d", x, pool["kernel_size"], pool["stride"], pool["padding"], False, False)


@rule(
    Call("aten.conv2d", input=Any("x"), weight=Const("w"), bias=None, padding=[0, 0], groups=1),
    source="a mistake: a convolution is a correlation, its kernel is not turned around",
)
def rows_in_reverse(x: Value, w: Tensor) -> Value:
    """w * x = sum_r w[:, :, -1 - r] x[r : r + h], which turns the kernel around."""
    require(w.shape[2] > 1, "it has one row")
    rows = x.shape[2] - w.shape[2] + 1
    parts = [
        call("aten.conv2d", call("aten.slice.Tensor", x, 2, row, row + rows), w[:, :, [w.shape[2] - 1 - row]])
        for row in range(w.shape[2])
    ]
    return functools.reduce(lambda total, part: call("aten.add.Tensor", total, part), parts)


@pytest.mark.parametrize(
    "conv", [nn.Conv2d(48, 48, 3, 2), nn.Conv2d(48, 48, 3, dilation=2), nn.Conv2d(48, 48, 3, groups=2)]
)
def test_other_convolutions_are_not_split(conv: nn.Conv2d) -> None:
    program = capture(conv.eval(), (torch.randn(CHANNELS[0]),))
    report = apply(split_kernel_rows, program)
    assert (report.hits, report.refusals) == (0, [])


@rule(
    Call("aten.slice.Tensor", name="taken", self=Any("x"), dim=1, step=Arg("step")),
    source="a mistake: groups and places in them change roles",
)
def first_values(taken: Value, x: Value, step: int) -> Value:
    """x[::n] = x[:q], which is right for constant values only."""
    require(step > 1, "its step is {}", step)
    return call("aten.slice.Tensor", x, 1, 0, taken.shape[1])


@rule(Call("aten.hardsigmoid", self=Any("x")), source="a mistake: clamped before it is moved")
def hardsigmoid_clamped_early(x: Value) -> Value:
    """hardsigmoid(x) = hardtanh(x, 0, 6) / 6, which is off by 1/2 at 0."""
    return call("aten.mul.Tensor", call("aten.hardtanh", x, 0.0, 6.0), 1 / 6)


@rule(
    Call("aten.amax", self=Any("x"), dim=[1], keepdim=True),
    source="a mistake: what lies between the first and the last value is not looked at",
)
def amax_of_ends(x: Value) -> Value:
    """amax(x) = max(x[0], x[-1]), for axes of two."""
    size = x.shape[1]
    ends = [call("aten.slice.Tensor", x, 1, index, index + 1) for index in (0, size - 1)]
    return call("aten.maximum", *ends)


@pytest.mark.parametrize(
    ("wrong", "make", "shapes"),
    [
        (norm_without_centring, lambda: nn.LayerNorm(6, elementwise_affine=False), ((2, 5, 6),)),
        (attention_without_scale, Attention, QKV),
        (pool_without_padding_counted, lambda: nn.AvgPool2d(3, 2, 1), IMAGE),
        (first_values, lambda: Applied(lambda x: x[:, ::2]), ((2, 8, 3),)),
        (hardsigmoid_clamped_early, nn.Hardsigmoid, ((2, 5, 6),)),
        (amax_of_ends, lambda: Applied(lambda x: x.amax(1, keepdim=True)), ((2, 3, 4),)),
        (rows_in_reverse, lambda: nn.Conv2d(48, 48, 3, bias=False), CHANNELS),
    ],
)
def test_wrong_variant_is_seen(wrong: Rule, make: Callable[[], nn.Module], shapes: tuple[tuple[int, ...], ...]) -> None:
    program: Program = capture(make().eval(), tuple(torch.randn(shape) + 1 for shape in shapes))
    proof = Proof(program)
    assert apply(wrong, program).hits == 1
    with pytest.raises(ParityError):
        proof.check(program, wrong.name, budget=1e-3)


def test_whole_row_masked_is_zero_not_nan() -> None:
    """What the refusal of such a mask protects: the safe softmax gives 0 there."""
    inputs = tuple(torch.randn(shape) for shape in QKV)
    output: Tensor = Attention(EMPTY_ROW)(*inputs)
    assert output[:, :, 0].abs().max() == 0
