"""One case for every ``require`` of the rules that merge convolutions: the graph stays, the message has the values."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hycompile.passes.merge_convolutions.parallel import merge_identity_into_convolution as identity
from hycompile.passes.merge_convolutions.parallel import merge_parallel_convolutions as parallel
from hycompile.passes.merge_convolutions.parallel import merge_pooling_mixer as pooling
from hycompile.passes.merge_convolutions.sequence import merge_convolution_into_pointwise as into_pointwise
from hycompile.passes.merge_convolutions.sequence import merge_pointwise_into_convolution as pointwise_first
from hycompile.passes.merge_convolutions.sequence import merge_pooling_into_pointwise as pooled
from hycompile.passes.merge_convolutions.zero import drop_added_zero as zero
from hycompile.rewrite import Rule, apply
from tests.passes.branches import Function
from tests.support import captured

IMAGE = (2, 4, 5, 5)


def _layers() -> dict[str, nn.Module]:
    return {
        "dense": nn.Conv2d(4, 4, 3, padding=1),
        "pointwise": nn.Conv2d(4, 4, 1),
        "depthwise": nn.Conv2d(4, 4, 3, padding=1, groups=4),
        "strided": nn.Conv2d(4, 4, 3, 2, 1),
        "quartered": nn.Conv2d(4, 4, 1, 4),
        "one": nn.Conv2d(4, 1, 3, padding=1),
        "even": nn.Conv2d(4, 4, 2, padding="same"),
        "around": nn.Conv2d(4, 4, 2, padding=1, dilation=2),
        "narrow": nn.Conv2d(4, 1, 1),
        "wide": nn.Conv2d(1, 4, 3, padding=1),
    }


def _twice_used(m: Function, x: Tensor) -> tuple[Tensor, ...]:
    y = m.dense(x)
    return y + m.pointwise(x), y.relu()


def _residual_twice_used(m: Function, x: Tensor) -> tuple[Tensor, ...]:
    y = m.dense(x)
    return x + y, y.relu()


def _pool_twice_used(m: Function, x: Tensor) -> tuple[Tensor, ...]:
    y = F.avg_pool2d(x, 3, 1, 1)
    return y - x, y.relu()


def _first_twice_used(m: Function, x: Tensor) -> tuple[Tensor, ...]:
    y = m.dense(x)
    return m.pointwise(y), y.relu()


def _scaled(m: Function, x: Tensor) -> Tensor:
    return F.conv2d(x, m.dense.weight * x.mean(), m.dense.bias, padding=1)


def _shifted(m: Function, x: Tensor) -> Tensor:
    return F.conv2d(x, m.dense.weight, m.dense.bias * x.mean(), padding=1)


CASES = [
    (parallel, "shapes", lambda m, x: m.one(x) + m.dense(x),
     "conv2d and conv2d_1 have the shapes [2, 1, 5, 5] and [2, 4, 5, 5]"),
    (parallel, "weight", lambda m, x: _scaled(m, x) + m.pointwise(x), "the weight of conv2d is not a constant"),
    (parallel, "bias", lambda m, x: _shifted(m, x) + m.pointwise(x), "the bias of conv2d is not a constant"),
    (parallel, "users", _twice_used, "conv2d has 2 users, the others need it by itself"),
    (parallel, "strides", lambda m, x: m.dense(y := x[..., :1, :1]) + m.strided(y),
     "conv2d and conv2d_1 have the strides (1, 1) and (2, 2)"),
    (parallel, "asymmetric", lambda m, x: m.even(x) + m.pointwise(x),
     "conv2d and conv2d_1 read (2, 2) taps from (0, 0) together, which no symmetric padding gives the size "
     "[2, 4, 5, 5]"),
    (parallel, "cost", lambda m, x: m.depthwise(x) + m.pointwise(x),
     "one convolution for conv2d and conv2d_1 takes 144 multiply-accumulates, apart they take 52"),
    (identity, "shapes", lambda m, x: x + m.one(x),
     "x and conv2d have the shapes [2, 4, 5, 5] and [2, 1, 5, 5]"),
    (identity, "weight", lambda m, x: _scaled(m, x) + x, "the weight of conv2d is not a constant"),
    (identity, "users", _residual_twice_used, "conv2d has 2 users, the others need it by itself"),
    (identity, "cost", lambda m, x: x + m.around(x),
     "one convolution for x and conv2d takes 144 multiply-accumulates, apart they take 64"),
    (pooling, "border", lambda m, x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False) - x,
     "avg_pool2d averages over fewer values at the border; a convolution and a multiplication by a border map cost "
     "more"),
    (pooling, "users", _pool_twice_used, "avg_pool2d has 2 users, the others need it by itself"),
    (pooling, "partial", lambda m, x: F.avg_pool2d(x, 1, 3) + F.avg_pool2d(x, 3, ceil_mode=True),
     "the last windows of avg_pool2d_1 reach beyond its input, and count fewer values"),
    (into_pointwise, "users", _first_twice_used, "conv2d has 2 users, the others need it by itself"),
    (into_pointwise, "weight", lambda m, x: m.pointwise(_scaled(m, x)), "the weight of conv2d is not a constant"),
    (into_pointwise, "bias", lambda m, x: m.pointwise(_shifted(m, x)), "the bias of conv2d is not a constant"),
    (into_pointwise, "asymmetric", lambda m, x: m.pointwise(m.even(x)),
     "conv2d pads one end more than the other: no symmetric padding gives both in one the size [2, 4, 5, 5]"),
    (into_pointwise, "cost", lambda m, x: m.pointwise(m.depthwise(x)),
     "one convolution for conv2d and conv2d_1 takes 3600 multiply-accumulates, apart they take 1300"),
    (pointwise_first, "stride", lambda m, x: m.dense(m.quartered(x)),
     "conv2d takes every (4, 4)th position only, and conv2d_1 reads several of those"),
    (pointwise_first, "asymmetric", lambda m, x: m.even(m.pointwise(x)),
     "conv2d_1 pads one end more than the other: no symmetric padding gives both in one the size [2, 4, 5, 5]"),
    (pointwise_first, "cost", lambda m, x: m.wide(m.narrow(x)),
     "one convolution for conv2d and conv2d_1 takes 3600 multiply-accumulates, apart they take 1000"),
    (pooled, "partial", lambda m, x: m.pointwise(F.avg_pool2d(x, 2, ceil_mode=True)),
     "the last windows of avg_pool2d reach beyond its input, and count fewer values"),
    (pooled, "cost", lambda m, x: m.pointwise(F.avg_pool2d(x, 2)),
     "one convolution for avg_pool2d and conv2d takes 256 multiply-accumulates, apart they take 128"),
    (zero, "type", lambda m, x: x.int() + 0.0, "add makes torch.float32 of torch.int32"),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize(("rule", "case", "forward", "reason"), CASES, ids=[f"{c[0].name}-{c[1]}" for c in CASES])
def test_refusal(
    rule: Rule, case: str, forward: Callable[[Function, Tensor], Tensor | tuple[Tensor, ...]], reason: str
) -> None:
    program = captured(Function(forward, **_layers()), torch.randn(IMAGE))
    before = program.text()
    report = apply(rule, program)
    assert report.hits == 0
    assert [refusal.reason for refusal in report.refusals] == [reason]
    assert program.text() == before


def test_what_is_not_a_pair_of_branches_is_no_refusal() -> None:
    """Residual additions around whole blocks, and branches of different inputs, are nothing to report."""
    forward: Callable[[Function, Tensor], Tensor] = lambda m, x: x + m.dense(x.relu()) + m.pointwise(x.sin()) + 1  # noqa: E731
    program = captured(Function(forward, **_layers()), torch.randn(IMAGE))
    for rule in (parallel, identity, pooling):
        assert (report := apply(rule, program)).hits == 0
        assert report.refusals == []


def test_bias_map_of_dynamic_size() -> None:
    model = nn.Sequential(nn.Conv2d(4, 8, 1), nn.Conv2d(8, 2, 3, padding=1))
    sizes = ({2: torch.export.Dim("height", min=4, max=32)},)
    report = apply(pointwise_first, captured(model, torch.randn(IMAGE), dynamic_shapes=sizes))
    assert report.hits == 0
    (refusal,) = report.refusals
    assert refusal.reason.startswith("conv2d adds a bias inside the padding of conv2d_1, and its size [s")
    assert refusal.reason.endswith(", 5] is dynamic: the bias map needs a fixed one")
