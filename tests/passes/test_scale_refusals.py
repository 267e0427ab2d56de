"""One case for every ``require`` of the scale, norm and linear rules: the graph stays, the message has the values."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from hycompile.passes.absorb import operator as absorber
from hycompile.passes.fold_norm_affine import fold_norm_affine as norms
from hycompile.passes.fold_scale.into_consumers import fold_scale_into_consumers as consumers
from hycompile.passes.fold_scale.into_producer import fold_scale_into_producer as producer
from hycompile.passes.merge_linears.constant_matmul import constant_matmul_to_linear as matmul
from hycompile.passes.merge_linears.in_series import merge_linears_in_series as series
from hycompile.passes.merge_linears.sum_of_linears import merge_low_rank_update as low_rank
from hycompile.passes.merge_linears.sum_of_linears import merge_sum_of_linears as sums
from hycompile.passes.merge_projections import merge_projections as projections
from hycompile.passes.move_before_upsample import move_conv_before_upsample as before_upsample
from hycompile.passes.move_before_upsample import move_linear_before_repeat as before_repeat
from hycompile.rewrite import Rule, apply
from tests.passes.scale_models import Forward, Parts
from tests.support import captured

IMAGE, TOKENS = (2, 4, 5, 5), (2, 3, 4)
CASES: list[tuple[Rule, str, Forward, tuple[int, ...], str]] = [
    (producer, "across_residual", lambda m, x: m.c4 * (x + m.back(m.linear(x))), TOKENS,
     "aten.add.Tensor is neither linear nor a move that keeps the channel axis"),
    (producer, "two_users", lambda m, x: ((y := m.linear(x)) * m.c6, y), TOKENS,
     "linear has 2 users, the others need it without the scale"),
    (producer, "negative_through_relu", lambda m, x: m.linear(x).relu() * -2, TOKENS,
     "aten.relu is neither linear nor a move that keeps the channel axis"),
    (producer, "term_through_product", lambda m, x: m.linear(x) * x.mean() + m.c6, TOKENS,
     "aten.mul.Tensor is neither linear nor a move that keeps the channel axis"),
    (producer, "infinite", lambda m, x: m.linear(x) / 0, TOKENS, "its constant has values that are not finite"),
    (consumers, "not_linear", lambda m, x: m.linear((x * m.c4).sigmoid()), TOKENS,
     "aten.sigmoid uses it and is neither linear nor a move that keeps the channel axis"),
    (consumers, "one_of_two", lambda m, x: (m.linear(y := x * m.c4), y + x), TOKENS,
     "aten.add.Tensor uses it and is neither linear nor a move that keeps the channel axis"),
    (consumers, "other_axis", lambda m, x: m.linear((x * m.image4).reshape(2, 25, 4)), IMAGE,
     "aten.reshape uses it and is neither linear nor a move that keeps the channel axis"),
    (consumers, "squared", lambda m, x: m.linear((y := x * m.c4) * y), TOKENS,
     "aten.mul.Tensor uses it and is neither linear nor a move that keeps the channel axis"),
    (consumers, "two_factors", lambda m, x: m.linear((y := x * 2).relu() * y), TOKENS,
     "linear sees the scale through two factors"),
    (consumers, "denominator", lambda m, x: m.linear(x.exp() / (x * m.c4)), TOKENS,
     "aten.div.Tensor uses it and is neither linear nor a move that keeps the channel axis"),
    (consumers, "sliced_channels", lambda m, x: m.down((x * m.c4)[..., :2].repeat(1, 1, 2)), TOKENS,
     "aten.slice.Tensor uses it and is neither linear nor a move that keeps the channel axis"),
    (consumers, "term_before_padding", lambda m, x: m.padded(x + m.image4), IMAGE,
     "conv2d is padded: the constant would come back as a map behind it"),
    (consumers, "term_before_transposed", lambda m, x: m.up(x + m.image4), IMAGE,
     "conv_transpose2d is transposed: at its borders it does not see the whole shift"),
    (consumers, "infinite", lambda m, x: m.linear(x / 0), TOKENS, "its constant has values that are not finite"),
    (norms, "residual", lambda m, x: (m.linear(y := m.layer_norm(x)), y + x), TOKENS,
     "aten.add.Tensor uses it and is neither linear nor a move that keeps the channel axis"),
    (norms, "several_axes", lambda m, x: m.linear(m.plane_norm(x)), TOKENS,
     "layer_norm normalises over [3, 4], several axes"),
    (norms, "padded_conv", lambda m, x: m.padded(m.group_norm(x)), IMAGE,
     "conv2d is padded: the bias would come back as a map behind it"),
    (norms, "weight", lambda m, x: m.linear(F.layer_norm(x, (4,), m.c4 * x.mean())), TOKENS,
     "the weight of layer_norm is not a constant"),
    (matmul, "batch", lambda m, x: x @ m.batch, TOKENS,
     "the constant is [2, 4, 6], not a matrix"),
    (series, "factorised", lambda m, x: m.up_again(m.down(x)), TOKENS, "merged it has 24 weights, apart 20"),
    (sums, "shapes", lambda m, x: m.linear(x) + m.single(x), TOKENS, "the weights are [6, 4] and [1, 4]"),
    (low_rank, "shapes", lambda m, x: m.linear(x) + m.single_again(m.down(x)), TOKENS,
     "the linear is [6, 4], the adapter [1, 4]"),
    (projections, "weight", lambda m, x: (m.linear(x), F.linear(x, m.matrix.t() * x.mean())), TOKENS,
     "weight or bias of linear_1 is no constant matrix"),
    (before_upsample, "kernel", lambda m, x: m.padded(F.interpolate(x, scale_factor=2)), IMAGE,
     "conv2d has kernel (3, 3), stride [1, 1], padding [1, 1]"),
    (before_upsample, "cost", lambda m, x: m.conv(F.interpolate(x, scale_factor=1)), IMAGE,
     "moved it takes 1500 operations, now 1400"),
    (before_repeat, "last_axis", lambda m, x: m.linear(x[..., :2].relu().repeat_interleave(2, 2)), TOKENS,
     "repeat_interleave repeats along the last axis, or changes the number of axes"),
    (before_repeat, "cost", lambda m, x: m.linear(x.relu().repeat(1, 1, 1)), TOKENS,
     "moved it takes 180 operations, now 168"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "case", "forward", "shape", "reason"), CASES, ids=[f"{c[0].name}-{c[1]}" for c in CASES]
)
def test_refusal(rule: Rule, case: str, forward: Forward, shape: tuple[int, ...], reason: str) -> None:
    program = captured(Parts(forward), torch.randn(shape))
    before = program.text()
    report = apply(rule, program)
    assert report.hits == 0
    assert [refusal.reason for refusal in report.refusals] == [reason]
    assert program.text() == before


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: x * m.linear(x).mean() + x,
        lambda m, x: m.linear(x) + m.positions,
        lambda m, x: m.linear(x) * m.positions,
        lambda m, x: torch.div(m.linear(x), 2, rounding_mode="floor"),
        lambda m, x: x[:, :1, :1] * m.c4,
        lambda m, x: m.linear(x) * m.c6.double(),
        lambda m, x: x.argmax(-1) * 2,
    ],
    ids=["run_time", "position_table", "table_of_factors", "floor", "broadcast", "promotion", "integers"],
)
def test_no_constant_map_along_one_axis(forward: Forward) -> None:
    """What is no per-channel map of its input is not even looked at."""
    program = captured(Parts(forward), torch.randn(TOKENS))
    before = program.text()
    for rule in (producer, consumers):
        report = apply(rule, program)
        assert (report.hits, report.refusals) == (0, [])
    assert program.text() == before


def test_large_tied_weight_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    program = captured(Parts(lambda m, x: m.linear(x * m.c4) + m.linear(x)), torch.randn(TOKENS))
    monkeypatch.setattr(absorber, "MAX_COPY_BYTES", 95)
    (refusal,) = apply(consumers, program).refusals
    assert refusal.reason == ("the weight of linear has 1 other users, a changed copy takes 96 bytes; the limit is 95")
    monkeypatch.setattr(absorber, "MAX_COPY_BYTES", 96)
    assert apply(consumers, program).hits == 1
