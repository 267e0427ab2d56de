"""Folding batch norms keeps what is computed, whatever the geometry: float32 to 1e-5, float64 to 1e-12 of the scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from hycompile.parity import execute, relative_error
from hycompile.passes.fold_batch_norm.into_consumers import fold_batch_norm_into_consumers as consumers
from hycompile.passes.fold_batch_norm.into_producer import fold_batch_norm_into_producer as producer
from hycompile.passes.fold_batch_norm.standing_alone import batch_norm_to_depthwise as alone
from hycompile.program import Program
from hycompile.rewrite import Rule, apply
from tests.passes.models import ReluThen
from tests.support import captured, count

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
few = settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


@dataclass(frozen=True)
class Geometry:
    spatial: int
    groups: int
    kernel: int
    stride: int
    padding: int | str
    dilation: int
    bias: bool
    affine: bool

    def keywords(self) -> dict[str, Any]:
        names = ("stride", "padding", "dilation", "groups", "bias")
        return {name: getattr(self, name) for name in names}


@st.composite
def geometries(draw: st.DrawFn, transposed: bool = False) -> Geometry:
    stride = draw(st.sampled_from([1, 2]))
    paddings: list[int | str] = [0, 1, 2, *(["same", "valid"] if stride == 1 and not transposed else [])]
    return Geometry(
        spatial=draw(st.sampled_from([1, 2, 2, 3])),
        groups=draw(st.sampled_from([1, 2, 4])),
        kernel=draw(st.sampled_from([1, 2, 3])),
        stride=stride,
        padding=draw(st.sampled_from(paddings)),
        dilation=draw(st.sampled_from([1, 2])),
        bias=draw(st.booleans()),
        affine=draw(st.booleans()),
    )


def _input(g: Geometry) -> torch.Tensor:
    return torch.randn(2, 4, *[7] * g.spatial)


def _check(rule: Rule, program: Program, hits: int = 1) -> None:
    """The rule hits, no batch norm is left, and both precisions compute what the original computes."""
    for dtype, tolerance in TOLERANCE.items():
        original = program.to(dtype)
        rewritten = original.copy()
        assert apply(rule, rewritten).hits == hits
        assert count(rewritten, "aten.batch_norm") == 0
        error = relative_error(
            execute(rewritten.methods["forward"]).outputs, execute(original.methods["forward"]).outputs
        )
        assert error <= tolerance


@few
@given(geometries())
def test_after_conv(g: Geometry) -> None:
    conv = CONV[g.spatial](4, 8, g.kernel, **g.keywords())
    _check(producer, captured(nn.Sequential(conv, NORM[g.spatial](8, affine=g.affine)), _input(g)))


@few
@given(geometries(transposed=True))
def test_after_transposed_conv(g: Geometry) -> None:
    conv = TRANSPOSED[g.spatial](4, 8, g.kernel, **g.keywords())
    _check(producer, captured(nn.Sequential(conv, NORM[g.spatial](8, affine=g.affine)), _input(g)))


@few
@given(geometries())
def test_before_conv(g: Geometry) -> None:
    conv = CONV[g.spatial](4, 8, g.kernel, **g.keywords())
    _check(consumers, captured(ReluThen(NORM[g.spatial](4, affine=g.affine), conv), _input(g)))


@few
@given(st.booleans(), st.booleans(), st.sampled_from([(3, 4), (2, 5, 4)]))
def test_linear(bias: bool, affine: bool, shape: tuple[int, ...]) -> None:
    class TokensThenNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.norm = nn.Linear(4, 6, bias=bias), nn.BatchNorm1d(6, affine=affine)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.linear(x)
            return self.norm(y) if y.dim() == 2 else self.norm(y.transpose(1, 2))

    _check(producer, captured(TokensThenNorm(), torch.randn(shape)))
    _check(
        consumers, captured(ReluThen(nn.BatchNorm1d(4, affine=affine), nn.Linear(4, 6, bias=bias)), torch.randn(3, 4))
    )


@few
@given(st.sampled_from([1, 2, 3]), st.sampled_from([(2, 2, 0), (3, 2, 1), (4, 4, 0)]), st.booleans())
def test_before_average_pool(spatial: int, window: tuple[int, int, int], ceil: bool) -> None:
    kernel, stride, padding = window
    pool = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}[spatial](kernel, stride, padding, ceil, False)
    layers = (NORM[spatial](4), pool, CONV[spatial](4, 6, 1))
    _check(consumers, captured(ReluThen(*layers), torch.randn(2, 4, *[7] * spatial)))


@few
@given(st.sampled_from([(3, 4), (2, 4, 5), (2, 4, 3, 3), (2, 4, 2, 3, 2)]), st.booleans())
def test_alone(shape: tuple[int, ...], affine: bool) -> None:
    norm = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}[len(shape)]
    _check(alone, captured(ReluThen(norm(4, affine=affine)), torch.randn(shape)))
