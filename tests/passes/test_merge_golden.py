"""Golden text before and after every rule that merges convolutions, with hit counts and parity in both precisions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hycompile.parity import Proof
from hycompile.passes.merge_convolutions.parallel import merge_identity_into_convolution as identity
from hycompile.passes.merge_convolutions.parallel import merge_parallel_convolutions as parallel
from hycompile.passes.merge_convolutions.parallel import merge_pooling_mixer as pooling
from hycompile.passes.merge_convolutions.sequence import merge_convolution_into_pointwise as into_pointwise
from hycompile.passes.merge_convolutions.sequence import merge_pointwise_into_convolution as pointwise_first
from hycompile.passes.merge_convolutions.sequence import merge_pooling_into_pointwise as pooled
from hycompile.passes.merge_convolutions.zero import drop_added_zero as zero
from hycompile.rewrite import Rule, apply
from hycompile.text import graph_text
from tests.passes.branches import Function, Sum
from tests.support import captured

IMAGE = (2, 4, 6, 6)
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


def _conv(kernel: int, groups: int = 1, **options: int | str | bool) -> nn.Module:
    return nn.Conv2d(4, 4, kernel, **{"padding": kernel // 2, "groups": groups} | options)  # type: ignore[arg-type]


def _pool(x: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(x, 3, 1, 1)


RULES = [
    (parallel, "kernels", 1, lambda: Sum(_conv(3), _conv(1)), IMAGE),
    (parallel, "strided", 1, lambda: Sum(_conv(1, stride=2), _conv(3, stride=2)), IMAGE),
    (parallel, "depthwise", 1, lambda: Sum(_conv(5, 4), _conv(3, 4, bias=False)), IMAGE),
    (parallel, "groups", 3, lambda: Sum(_conv(3, 4), _conv(1), _conv(3, 2), _conv(3)), IMAGE),
    (parallel, "dilated", 1, lambda: Sum(_conv(3, padding=2, dilation=2), _conv(1, bias=False)), IMAGE),
    (parallel, "same", 1, lambda: Sum(_conv(3, padding="same"), _conv(1, padding="valid")), IMAGE),
    (parallel, "difference", 1, lambda: Function(lambda m, x: m.a(x) - m.b(x), a=_conv(3, 4), b=_conv(1, 4)), IMAGE),
    (parallel, "others_between", 1,
     lambda: Function(lambda m, x: m.a(x) + x.sin() * 2 - (x.tanh() - torch.add(x.cos(), m.b(x), alpha=3)),
                      a=_conv(3), b=_conv(3)), IMAGE),
    (parallel, "twice_the_same", 1, lambda: Function(lambda m, x: (y := m.a(x)) + y, a=_conv(3)), IMAGE),
    (parallel, "one_axis", 1, lambda: Sum(nn.Conv1d(4, 6, 5, padding=2), nn.Conv1d(4, 6, 1)), (2, 4, 7)),
    (parallel, "without_batch", 1, lambda: Sum(_conv(3), _conv(1)), (4, 6, 6)),
    (identity, "dense", 1, lambda: Function(lambda m, x: x + m.a(x), a=_conv(3)), IMAGE),
    (identity, "depthwise", 1, lambda: Function(lambda m, x: m.a(x) + x, a=_conv(3, 4)), IMAGE),
    (identity, "grouped", 1, lambda: Function(lambda m, x: x - m.a(x), a=_conv(1, 2)), IMAGE),
    (identity, "twice", 2, lambda: Function(lambda m, x: x + m.a(x) + x, a=_conv(3)), IMAGE),
    (pooling, "core", 1, lambda: Function(lambda m, x: _pool(x) - x), IMAGE),
    (pooling, "beside_convolution", 1, lambda: Function(lambda m, x: m.a(x) + _pool(x), a=_conv(3)), IMAGE),
    (pooling, "one_axis", 1, lambda: Function(lambda m, x: F.avg_pool1d(x, 3, 1, 1) - x), (2, 4, 7)),
    (into_pointwise, "strided", 1,
     lambda: nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1), nn.Conv2d(6, 2, 1)), IMAGE),
    (into_pointwise, "depthwise_scale", 1, lambda: nn.Sequential(_conv(3), _conv(1, 4)), IMAGE),
    (into_pointwise, "grouped", 1, lambda: nn.Sequential(_conv(3, 2), _conv(1, 4, stride=2, bias=False)), (2, 4, 5, 5)),
    (into_pointwise, "pointwise", 1, lambda: nn.Sequential(nn.Conv2d(4, 9, 1), nn.Conv2d(9, 3, 1)), IMAGE),
    (pointwise_first, "without_bias", 1,
     lambda: nn.Sequential(nn.Conv2d(4, 8, 1, bias=False), nn.Conv2d(8, 2, 3, padding=1)), IMAGE),
    (pointwise_first, "unpadded", 1, lambda: nn.Sequential(nn.Conv2d(4, 8, 1), nn.Conv2d(8, 2, 3, 2)), IMAGE),
    (pointwise_first, "bias_map", 1,
     lambda: nn.Sequential(nn.Conv2d(4, 8, 1), nn.Conv2d(8, 2, 3, padding=1, bias=False)), IMAGE),
    (pooled, "depthwise", 1, lambda: nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), _conv(1, 4)), IMAGE),
    (zero, "branch_that_is_not_there", 2, lambda: Function(lambda m, x: 0 + (x.relu() - 0)), IMAGE),
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
    before = graph_text(program.methods["forward"].graph)
    for dtype, tolerance in TOLERANCE.items():
        rewritten = program.to(dtype)
        proof, report = Proof(rewritten), apply(rule, rewritten)
        assert report.hits == hits
        assert report.refusals == []
        assert proof.check(rewritten, rule.name, budget=tolerance) <= tolerance
        if dtype == torch.float32:
            golden(f"{rule.name}/{case}", before, graph_text(rewritten.methods["forward"].graph))
