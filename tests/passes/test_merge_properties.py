"""Merging keeps what is computed, whatever the geometry: float32 to 1e-5, float64 to 1e-12 of the output's scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from hycompile.parity import execute, relative_error
from hycompile.passes.merge_convolutions import MergeConvolutions
from hycompile.program import Program
from hycompile.schema import is_call
from tests.passes.branches import Function, Sum
from tests.support import captured

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
POOL = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
AT_ANY_COST = MergeConvolutions(growth=1e9)
few = settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
groups, flags, axes = st.sampled_from([1, 2, 4]), st.booleans(), st.sampled_from([1, 2, 2, 3])
kernels, strides, dilations = st.sampled_from([1, 3, 5]), st.sampled_from([1, 2]), st.sampled_from([1, 2])


@dataclass(frozen=True)
class Branch:
    kernel: int
    dilation: int
    groups: int
    bias: bool

    def layer(self, spatial: int, stride: int) -> nn.Module:
        padding: Any = self.dilation * (self.kernel - 1) // 2
        return CONV[spatial](4, 4, self.kernel, stride, padding, self.dilation, self.groups, self.bias)


branches = st.builds(Branch, kernels, dilations, groups, flags)


def _check(program: Program, left: int) -> None:
    """After the pass, ``left`` operators are left; both precisions compute what the original computes."""
    for dtype, tolerance in TOLERANCE.items():
        original = program.to(dtype)
        rewritten = original.copy()
        AT_ANY_COST.run(rewritten, lambda program, report: None)
        assert AT_ANY_COST.ensures(rewritten) is None
        nodes = [node for node in rewritten.methods["forward"].graph.graph.nodes if node.op == "call_function"]
        assert [is_call(node, "aten.conv1d", "aten.conv2d", "aten.conv3d") for node in nodes][:1] == [True]
        assert len(nodes) == left
        error = relative_error(
            execute(rewritten.methods["forward"]).outputs, execute(original.methods["forward"]).outputs
        )
        assert error <= tolerance


@few
@given(axes, strides, branches, branches)
def test_parallel(spatial: int, stride: int, one: Branch, other: Branch) -> None:
    model = Sum(one.layer(spatial, stride), other.layer(spatial, stride))
    _check(captured(model, torch.randn(2, 4, *[7] * spatial)), 1)


@few
@given(axes, branches, st.sampled_from([-2, -1, 1, 0.5]))
def test_identity(spatial: int, branch: Branch, factor: float) -> None:
    model = Function(lambda m, x: torch.add(x, m.a(x), alpha=factor), a=branch.layer(spatial, 1))
    _check(captured(model, torch.randn(2, 4, *[7] * spatial)), 1)


@few
@given(axes, st.sampled_from([(3, 1), (5, 2)]), branches)
def test_pooling(spatial: int, window: tuple[int, int], branch: Branch) -> None:
    pool, layer = POOL[spatial](window[0], 1, window[1]), branch.layer(spatial, 1)
    model = Function(lambda m, x: m.pool(x) - x - m.conv(x), pool=pool, conv=layer)
    _check(captured(model, torch.randn(2, 4, *[7] * spatial)), 1)


@few
@given(axes, strides, st.sampled_from([0, 1, 3]), branches, groups, flags, strides)
def test_into_pointwise(
    spatial: int, stride: int, padding: int, first: Branch, groups: int, bias: bool, second_stride: int
) -> None:
    layer = CONV[spatial](4, 8, first.kernel, stride, padding, first.dilation, first.groups, first.bias)
    pointwise = CONV[spatial](8, 4, 1, second_stride, groups=groups, bias=bias)
    _check(captured(nn.Sequential(layer, pointwise), torch.randn(2, 4, *[9] * spatial)), 1)


@few
@given(axes, strides, st.sampled_from([0, 1, 3]), branches, groups, flags)
def test_pointwise_first(spatial: int, stride: int, padding: int, second: Branch, groups: int, bias: bool) -> None:
    pointwise = CONV[spatial](4, 8, 1, groups=groups, bias=bias)
    layer = CONV[spatial](8, 4, second.kernel, stride, padding, second.dilation, second.groups, second.bias)
    bordered = bias and padding > 0
    _check(captured(nn.Sequential(pointwise, layer), torch.randn(2, 4, *[9] * spatial)), 2 if bordered else 1)


@few
@given(axes, st.sampled_from([(2, 2, 0), (3, 2, 1), (4, 4, 0)]), groups, flags)
def test_pooling_into_pointwise(spatial: int, window: tuple[int, int, int], groups: int, bias: bool) -> None:
    model = nn.Sequential(POOL[spatial](*window), CONV[spatial](4, 8, 1, groups=groups, bias=bias))
    _check(captured(model, torch.randn(2, 4, *[8] * spatial)), 1)
