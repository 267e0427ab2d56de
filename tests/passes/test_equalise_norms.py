"""Equalisation behind norms: text, parity in both precisions, what it is for, and what it refuses."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import hycompile as hy
from hycompile.errors import PassError
from hycompile.program import Program
from hycompile.quantisation.calibration import calibration
from hycompile.schema import bind, is_call
from tests.conftest import Golden
from tests.passes.scale_models import Forward, Parts, attention
from tests.support import captured

IMAGE, TOKENS = (2, 4, 5, 5), (2, 3, 4)


def _calibrated(program: Program, shape: tuple[int, ...]) -> Program:
    from dataclasses import replace

    generator = torch.Generator().manual_seed(1)
    return replace(program, calibration=calibration(program, [torch.randn(shape, generator=generator)] * 2))


CASES: list[tuple[str, str, Forward, tuple[int, ...]]] = [
    ("attention", "", attention, TOKENS),
    ("group_norm", "", lambda m, x: m.conv(m.group_norm(x)), IMAGE),
    ("padded", "", lambda m, x: m.padded(m.group_norm(x)), IMAGE),
    ("rms_norm", "", lambda m, x: m.linear(m.rms_norm(x) * x.sigmoid()), TOKENS),
    ("bare", "", lambda m, x: m.linear(F.layer_norm(x, (4,))), TOKENS),
    ("powers", "{factors=powers}", lambda m, x: m.linear(m.layer_norm(x).mean(1)), TOKENS),
]


@pytest.mark.parametrize(("case", "options", "make", "shape"), CASES, ids=[case[0] for case in CASES])
def test_golden(case: str, options: str, make: Forward, shape: tuple[int, ...], golden: Golden) -> None:
    torch.manual_seed(0)
    program = _calibrated(captured(Parts(make), torch.randn(shape)), shape)
    found, report = hy.Pipeline.parse(f"equalise-norms{options}")(program)
    (rule,) = report.passes[0].rules
    assert (rule.hits, rule.refusals) == (1, [])
    assert rule.error_fp32 is not None
    assert rule.error_fp64 is not None
    assert rule.error_fp32 < 1e-5
    assert rule.error_fp64 < 1e-12
    golden(f"equalise_norms/{case}", program.text(), found.text())


class _Wide(nn.Module):
    """A norm whose channels have ranges of 1 to 100, as vision transformers have them."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(16), nn.Linear(16, 8)
        with torch.no_grad():
            self.norm.weight.copy_(torch.logspace(0, 2, 16))
            self.norm.bias.copy_(torch.linspace(50, -50, 16))
            self.linear.weight /= self.norm.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.norm(x))


def _wide() -> tuple[Program, list[Tensor]]:
    torch.manual_seed(0)
    return captured(_Wide(), torch.randn(2, 7, 16)), [torch.randn(2, 7, 16) for _ in range(4)]


def test_channels_have_one_range_behind() -> None:
    program, samples = _wide()
    found, _ = hy.quantise(program, samples, "equalise-norms,quantise{activations=symmetric}")
    seen: list[Tensor] = []
    norm = next(node for node in found.methods["forward"].graph.graph.nodes if is_call(node, "aten.layer_norm"))
    from hycompile.parity import play

    for _ in play(found, found.calibration, lambda _, node, value: seen.append(value) if node is norm else None):  # type: ignore[arg-type, func-returns-value]
        pass
    rows = torch.cat([value.flatten(0, 1) for value in seen])
    torch.testing.assert_close(rows.amax(0), -rows.amin(0), rtol=1e-3, atol=0)
    torch.testing.assert_close(rows.amax(0), rows.amax().expand(16), rtol=1e-3, atol=0)


@pytest.mark.parametrize(("options", "gained"), [("", 20), ("{factors=powers}", 3)])
def test_channels_are_rounded_each_on_its_own(options: str, gained: float) -> None:
    program, samples = _wide()
    text = "quantise{min_sqnr=-20.0,bits=8,activation_bits=6}"
    plain, _ = hy.quantise(program, samples, text)
    equal, _ = hy.quantise(program, samples, f"equalise-norms{options},{text}")
    assert _sqnr(equal) > _sqnr(plain) + gained


def _sqnr(program: Program) -> float:
    assert program.plan is not None
    assert program.plan.measured is not None
    return program.plan.measured.output_sqnr


def test_powers_are_one_to_eight_without_a_shift() -> None:
    program, samples = _wide()
    found, _ = hy.quantise(program, samples, "equalise-norms{factors=powers},quantise")
    module = found.methods["forward"].graph
    norm = next(node for node in module.graph.nodes if is_call(node, "aten.layer_norm"))
    weight, bias = (found.tensors()[str(bind(norm)[name].target)] for name in ("weight", "bias"))
    factors = program.tensors()["norm.weight"] / weight
    assert {round(math.log2(factor), 6) for factor in factors.tolist()} == {0, 1, 2, 3}
    torch.testing.assert_close(bias * factors, program.tensors()["norm.bias"])


REFUSED: list[tuple[str, Forward, tuple[int, ...], str]] = [
    ("residual", lambda m, x: (m.linear(y := m.layer_norm(x)), y + x), TOKENS,
     "aten.add.Tensor uses it and is neither linear nor a move that keeps the channel axis"),
    ("several_axes", lambda m, x: m.linear(m.plane_norm(x)), TOKENS,
     "layer_norm normalises over [3, 4], several axes"),
    ("weight", lambda m, x: m.linear(F.layer_norm(x, (4,), m.c4 * x.mean())), TOKENS,
     "the weight of layer_norm is not a constant"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "shape", "told"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_refusals(make: Forward, shape: tuple[int, ...], told: str) -> None:
    program = _calibrated(captured(Parts(make), torch.randn(shape)), shape)
    found, report = hy.Pipeline.parse("equalise-norms")(program)
    assert report.passes[0].hits == 0
    assert found.text() == program.text()
    assert [refusal.reason for refusal in report.passes[0].rules[0].refusals] == [told]


class _TwoMethods(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.norm(x))

    def back(self, x: Tensor) -> Tensor:
        return self.linear(self.norm(-x))


def test_weights_of_several_methods_stay_one() -> None:
    calls = {"forward": hy.Call((torch.randn(2, 4),)), "back": hy.Call((torch.randn(2, 4),), function="back")}
    program = hy.capture(_TwoMethods().eval(), methods=calls)
    steps = [hy.Step(name, (torch.randn(2, 4),)) for name in calls]
    _, report = hy.quantise(program, steps, "equalise-norms,quantise")
    told = [refusal.reason for refusal in report.passes[0].rules[0].refusals]
    assert told == ["several methods read the weight of linear"] * 2


def test_options_and_missing_data() -> None:
    program, samples = _wide()
    with pytest.raises(PassError, match="factors 'all'; free or powers"):
        hy.quantise(program, samples, "equalise-norms{factors=all}")
    with pytest.raises(PassError, match="no observer 'median'; one of minmax"):
        hy.quantise(program, samples, "equalise-norms{observer=median}")
    with pytest.raises(PassError, match=r"has no calibration data.*give --calibration DIR"):
        hy.Pipeline.parse("equalise-norms")(program)
