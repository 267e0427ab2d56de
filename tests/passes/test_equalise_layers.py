"""Equalisation of layers in a row: text, parity in both precisions, what it is for, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import hycompile as hy
from hycompile.attributes import tensor_at
from hycompile.errors import PassError
from hycompile.parity import execute, relative_error
from hycompile.program import Program
from hycompile.reports import PipelineReport
from hycompile.schema import bind, is_call
from tests.conftest import Golden
from tests.passes.scale_models import Forward, Parts
from tests.support import captured

IMAGE, TOKENS = (2, 4, 5, 5), (2, 3, 4)


def _run(program: Program) -> tuple[Program, PipelineReport]:
    found, report = hy.Pipeline.parse("equalise-layers")(program)
    (rule,) = report.passes[0].rules
    if rule.hits:
        assert rule.error_fp32 is not None
        assert rule.error_fp64 is not None
        assert rule.error_fp32 < 1e-5
        assert rule.error_fp64 < 1e-12
    return found, report


class _Separable(nn.Module):
    """A convolution, a depthwise and a pointwise one; one makes channels of very different size, the next undoes it."""

    def __init__(self, channels: int = 6) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3)
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.point = nn.Conv2d(channels, 5, 1)
        assert self.stem.bias is not None
        with torch.no_grad():
            sizes = torch.logspace(-1.5, 1.5, channels)
            self.stem.weight *= sizes[:, None, None, None]
            self.stem.bias *= sizes
            self.depthwise.weight /= sizes[:, None, None, None]

    def forward(self, x: Tensor) -> Tensor:
        return self.point(F.relu(self.depthwise(F.relu(self.stem(x)))))


CASES: list[tuple[str, int, Forward, tuple[int, ...]]] = [
    ("relu", 1, lambda m, x: m.back(m.linear(x).relu()), TOKENS),
    ("grouped_and_pooled", 1, lambda m, x: m.back(m.grouped(x).relu().mean((2, 3))), IMAGE),
    ("transposed", 1, lambda m, x: m.back(m.up(x).permute(0, 2, 3, 1)), IMAGE),
    ("gate", 1, lambda m, x: m.back(m.linear(x) * x.mean()), TOKENS),
]


@pytest.mark.parametrize(("case", "hits", "make", "shape"), CASES, ids=[case[0] for case in CASES])
def test_golden(case: str, hits: int, make: Forward, shape: tuple[int, ...], golden: Golden) -> None:
    torch.manual_seed(0)
    program = captured(Parts(make), torch.randn(shape))
    found, report = _run(program)
    assert report.passes[0].hits == hits
    golden(f"equalise_layers/{case}", program.text(), found.text())


def test_depthwise_golden(golden: Golden) -> None:
    torch.manual_seed(0)
    program = captured(_Separable(), torch.randn(2, 3, 6, 6))
    found, report = _run(program)
    assert report.passes[0].hits == 2
    golden("equalise_layers/depthwise", program.text(), found.text())


def test_all_ranges_are_equal_behind() -> None:
    torch.manual_seed(0)
    found, _ = _run(captured(_Separable(), torch.randn(2, 3, 6, 6)))
    module = found.methods["forward"].graph
    stem, depthwise, point = (
        tensor_at(module, str(bind(node)["weight"].target)).abs()
        for node in module.graph.nodes
        if is_call(node, "aten.conv2d")
    )
    middle = depthwise.amax((1, 2, 3))
    torch.testing.assert_close(stem.amax((1, 2, 3)), middle, rtol=0.03, atol=0)
    torch.testing.assert_close(point.amax((0, 2, 3)), middle, rtol=0.03, atol=0)


def test_one_scale_for_all_channels_costs_less_behind() -> None:
    torch.manual_seed(0)
    program, samples = captured(_Separable(), torch.randn(2, 3, 6, 6)), [torch.randn(2, 3, 6, 6) for _ in range(4)]
    text = "quantise{weights=tensor,min_sqnr=-20.0}"
    plain, _ = hy.quantise(program, samples, text)
    equal, _ = hy.quantise(program, samples, f"equalise-layers,{text}")
    assert _sqnr(equal) > _sqnr(plain) + 6


def _sqnr(program: Program) -> float:
    assert program.plan is not None
    assert program.plan.measured is not None
    return program.plan.measured.output_sqnr


@settings(max_examples=6, deadline=None)
@given(st.integers(1, 3), st.booleans(), st.booleans(), st.sampled_from([torch.float32, torch.float64]))
def test_parity_of_any_groups(groups: int, transposed: bool, bias: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    kind: Callable[..., nn.Module] = nn.ConvTranspose2d if transposed else nn.Conv2d
    layers = kind(6, 6, 3, groups=groups, bias=bias), nn.ReLU(), kind(6, 12, 2, groups=groups, bias=bias)
    program = captured(nn.Sequential(*layers).to(dtype), torch.randn(1, 6, 5, 5, dtype=dtype))
    with torch.no_grad():
        layers[0].weight[2] = 0.0  # type: ignore[index, operator]
    found, report = hy.Pipeline.parse("equalise-layers")(program)
    assert report.passes[0].hits == 1
    one, other = execute(found.methods["forward"]).outputs, execute(program.methods["forward"]).outputs
    assert relative_error(one, other) < (1e-5 if dtype == torch.float32 else 1e-12)


REFUSED: list[tuple[str, Forward, tuple[int, ...], str]] = [
    ("silu", lambda m, x: m.back(F.silu(m.linear(x))), TOKENS, "aten.silu uses it and is neither linear nor a move"),
    ("relu6", lambda m, x: m.back(F.relu6(m.linear(x))), TOKENS, " uses it and is neither linear nor a move"),
    ("residual", lambda m, x: m.back(y := m.linear(x).relu()) + y[..., :4], TOKENS,
     "aten.slice.Tensor uses it and is neither linear nor a move"),
    ("returned", lambda m, x: (m.back(y := m.linear(x)), y), TOKENS, "output uses it and is neither linear nor a move"),
    ("two_readers", lambda m, x: m.back(m.linear(x).relu()) + m.back(m.linear(x)), TOKENS,
     "the weight of linear has 2 readers"),
    ("computed", lambda m, x: m.back(F.linear(x, m.matrix.t() * x.mean())), TOKENS,
     "the weight of linear is not a constant"),
    ("unbatched", lambda m, x: m.grouped(m.grouped(x)[:4]), (4, 9, 9), "conv2d works without a batch axis"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "shape", "told"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_refusals(make: Forward, shape: tuple[int, ...], told: str) -> None:
    program = captured(Parts(make), torch.randn(shape))
    found, report = _run(program)
    assert report.passes[0].hits == 0
    assert found.text() == program.text()
    assert any(told in refusal.reason for refusal in report.passes[0].rules[0].refusals)


def test_without_values() -> None:
    program = captured(Parts(CASES[0][2]), torch.randn(TOKENS))
    meta = replace(program, methods={"forward": _on_meta(program)})
    with pytest.raises(PassError, match="is on the meta device"):
        hy.Pipeline.parse("equalise-layers")(meta)


def _on_meta(program: Program) -> object:
    method = program.copy().methods["forward"]
    return replace(method, args=(method.args[0].to("meta"),))
