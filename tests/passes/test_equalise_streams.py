"""Equalisation through residuals and gates: text, parity in both precisions, what it is for, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import hycompile as hy
from hycompile.errors import PassError
from hycompile.parity import execute
from hycompile.program import Program
from hycompile.quantisation.calibration import calibration
from hycompile.reports import RuleReport
from tests.conftest import Golden
from tests.support import captured

Forward = Callable[["Stage", Tensor], Tensor]
SHAPE = (2, 3, 6, 6)


class Stage(nn.Module):
    """The layers of a stage of a residual network, whose channels are of very different size."""

    def __init__(self, make: Forward) -> None:
        super().__init__()
        self.make = make
        self.stem, self.mix = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.wide, self.narrow = nn.Conv2d(4, 6, 1), nn.Conv2d(6, 4, 1)
        self.squeeze, self.excite = nn.Conv2d(4, 2, 1), nn.Conv2d(2, 4, 1)
        self.head = nn.Linear(4, 5)
        with torch.no_grad():
            sizes = torch.tensor([0.05, 0.3, 1.0, 8.0])
            for layer in (self.stem, self.mix, self.narrow):
                assert layer.bias is not None
                layer.weight *= sizes[:, None, None, None]
                layer.bias *= sizes
            for layer in (self.wide, self.squeeze):
                layer.weight /= sizes[:, None, None]
            self.mix.weight /= sizes[:, None, None, None]
            self.head.weight /= sizes

    def forward(self, x: Tensor) -> Tensor:
        return self.make(self, x)

    def gated(self, x: Tensor) -> Tensor:
        """Squeeze and excitation."""
        return x * self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))).sigmoid()

    def residual(self, x: Tensor) -> Tensor:
        return x + self.narrow(F.gelu(self.wide(x)))


def _block(m: Stage, x: Tensor) -> Tensor:
    return m.head(m.residual(m.gated(m.mix(m.stem(x)))).mean((2, 3)))


def _run(make: Forward, options: str = "") -> tuple[Program, Program, RuleReport]:
    torch.manual_seed(0)
    program = captured(Stage(make), torch.randn(SHAPE))
    program = replace(program, calibration=calibration(program, _samples()))
    found, report = hy.Pipeline.parse(f"equalise-streams{options}")(program)
    (rule,) = report.passes[0].rules
    if rule.hits:
        assert rule.error_fp32 is not None
        assert rule.error_fp64 is not None
        assert rule.error_fp32 < 1e-5
        assert rule.error_fp64 < 1e-12
    return program, found, rule


def _samples() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(SHAPE, generator=generator) for _ in range(4)]


def test_golden(golden: Golden) -> None:
    """Three streams: the stem's output; that of the depthwise layer, with the residual; and that within the gate."""
    program, found, rule = _run(_block)
    assert rule.hits == 3
    assert {refusal.reason for refusal in rule.refusals} == {
        "aten.gelu reads it and keeps no factor",
        "aten.sigmoid reads it and keeps no factor",
        "output reads it and keeps no factor",
    }
    golden("equalise_streams/block", program.text(), found.text())


def test_channels_have_the_same_range_behind() -> None:
    _, found, _ = _run(_block, "{strength=1.0}")
    seen: list[Tensor] = []

    def watch(node: object, value: object) -> None:
        if getattr(node, "name", "") == "conv2d":
            assert isinstance(value, Tensor)
            seen.append(value.abs().amax((0, 2, 3)))

    for x in _samples():
        execute(found.methods["forward"], (x,), watch=watch)
    ranges = torch.stack(seen).amax(0)
    assert ranges.max() / ranges.min() < 1.2


def test_one_scale_costs_less_behind() -> None:
    program, _, _ = _run(_block)
    ratios: list[float] = []
    for before in ("", "equalise-streams,"):
        found, _ = hy.quantise(program, _samples(), f"{before}quantise{{activation_bits=6,min_sqnr=-20.0}}")
        assert found.plan is not None
        assert found.plan.measured is not None
        ratios.append(found.plan.measured.output_sqnr)
    assert ratios[1] > ratios[0] + 6


REFUSED: list[tuple[str, Forward, str]] = [
    (
        "input",
        lambda m, x: m.squeeze(m.stem(x) + x.mean(1, keepdim=True).expand(2, 4, 6, 6)),
        "gives a value of it and keeps no factor",
    ),
    ("activation", lambda m, x: m.squeeze(F.silu(m.stem(x))), "aten.silu reads it and keeps no factor"),
    ("returned", lambda m, x: m.stem(x), "output reads it and keeps no factor"),
    ("square", lambda m, x: m.squeeze((y := m.stem(x)) * (y + y)), "multiplies two values of the stream"),
    ("two_readers", lambda m, x: m.squeeze(m.stem(x)) + m.squeeze(m.stem(x + 1)), "several read the weight of"),
    (
        "shapes",
        lambda m, x: m.squeeze(m.stem(x) + m.stem(x).mean((2, 3), keepdim=True)),
        "adds a number, or values of several shapes",
    ),
    ("shift", lambda m, x: m.squeeze(m.stem(x) + 1.0), "adds a number, or values of several shapes"),
    ("weight", lambda m, x: F.conv2d(x, m.stem(x)[:, :3]), "keeps no factor"),
]


@pytest.mark.parametrize(("make", "told"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_refusals(make: Forward, told: str) -> None:
    program, found, rule = _run(make)
    assert rule.hits == 0
    assert found.text() == program.text()
    assert any(told in refusal.reason for refusal in rule.refusals)


def test_strength() -> None:
    with pytest.raises(PassError, match=r"strength 1.5; above 0, at most 1"):
        hy.Pipeline.parse("equalise-streams{strength=1.5}")


def test_without_calibration_data() -> None:
    torch.manual_seed(0)
    with pytest.raises(PassError, match="has no calibration data"):
        hy.Pipeline.parse("equalise-streams")(captured(Stage(_block), torch.randn(SHAPE)))
