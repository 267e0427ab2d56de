"""Linears with weights in groups and inputs whose ranges are found at run time; what of a recurrence stays in float."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

import hycompile as hy
from hycompile.errors import CaptureError, PassError
from hycompile.parity import execute, relative_error
from hycompile.passes.quantise.linears import fit_group
from hycompile.program import Program
from hycompile.quantisation.nodes import DEQUANTISE_GROUPS, DEQUANTISE_ROWS
from hycompile.quantisation.plan import QuantisedValue, QuantPlan
from hycompile.recurrence import causal_conv, selective_scan
from tests.support import captured, count

FOUR = "quantise{bits=4,group=32,activations=dynamic,min_sqnr=0.0}"


class Mixer(nn.Module):
    """Mamba-1's mixer between an embedding and the head tied to it."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(40, 96)
        self.into, self.out = nn.Linear(96, 128, bias=False), nn.Linear(64, 96)
        self.taps = nn.Parameter(torch.randn(64, 4) / 2)
        self.ranks, self.steps = nn.Linear(64, 4 + 16, bias=False), nn.Linear(4, 64)
        self.decay = nn.Parameter(torch.rand(64, 8))

    def forward(self, tokens: Tensor) -> Tensor:
        u, gate = self.into(self.table(tokens)).chunk(2, -1)
        u, _ = causal_conv(u, self.taps, None, u.new_zeros(1, 64, 3))
        dt, b, c = self.ranks(F.silu(u)).split([4, 8, 8], -1)
        y, _ = selective_scan(u, F.softplus(self.steps(dt)), -self.decay.exp(), b, c, u.new_zeros(1, 64, 8))
        return F.linear(self.out(y * F.silu(gate)), self.table.weight)


@cache
def mixer() -> Program:
    torch.manual_seed(0)
    return captured(Mixer(), torch.randint(40, (1, 6)))


def samples() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(40, (1, 6), generator=generator) for _ in range(3)]


def _plan(program: Program) -> QuantPlan:
    assert program.plan is not None
    return program.plan


class _Wide(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(96, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


def _by_hand(linear: nn.Linear, x: Tensor, bits: int, group: int) -> Tensor:
    largest = 2 ** (bits - 1) - 1
    weight = linear.weight.detach().reshape(-1, group)
    scale = (weight.abs().amax(1, keepdim=True) / largest).bfloat16().float()
    weight = ((weight / scale).round().clamp(-largest, largest) * scale).reshape(linear.weight.shape)
    low, high = x.amin(-1, keepdim=True).clamp(max=0), x.amax(-1, keepdim=True).clamp(min=0)
    step = (high - low) / 255
    zero = (-128 - low / step).round()
    rounded = ((x / step + zero).round().clamp(-128, 127) - zero) * step
    return F.linear(rounded, weight, linear.bias)


@pytest.mark.parametrize(("bits", "group"), [(4, 32), (8, 32)])
def test_a_linear_by_hand(bits: int, group: int) -> None:
    torch.manual_seed(0)
    model, x = _Wide().eval(), torch.randn(2, 3, 96) * torch.tensor([0.1, 1.0, 100.0])[:, None]
    quantised, _ = hy.quantise(
        hy.capture(model, (x,)), [x], f"quantise{{bits={bits},group={group},activations=dynamic}}"
    )
    (found,) = execute(quantised.methods["forward"], (x,)).outputs
    torch.testing.assert_close(found, _by_hand(model.linear, x, bits, group), rtol=1e-5, atol=1e-5)


def test_rows_have_ranges_of_their_own() -> None:
    """A row a thousand times smaller keeps its eight bits; one range for both would leave it nothing."""
    torch.manual_seed(0)
    model, x = _Wide().eval(), torch.randn(1, 2, 96) * torch.tensor([1e-3, 1.0])[:, None]
    nn.init.zeros_(model.linear.bias)
    program = hy.capture(model, (x,))
    exact = execute(program.methods["forward"], (x,)).outputs[0][:, :1]
    dynamic, static = (
        execute(hy.quantise(program, [x], text)[0].methods["forward"], (x,)).outputs[0][:, :1]
        for text in ("quantise{activations=dynamic}", "quantise{min_sqnr=0.0}")
    )
    assert relative_error((dynamic,), (exact,)) < 0.05
    assert relative_error((static,), (exact,)) > 0.2


def test_state_path_and_convolution_stay_in_float() -> None:
    quantised, report = hy.quantise(mixer(), samples(), FOUR)
    plan = _plan(quantised)
    weights = {value.node: value for value in plan.values if value.role == "weight"}
    assert sorted(weights) == ["into.weight", "out.weight", "table.weight"]
    assert {value.group for value in weights.values()} == {32}
    assert len(weights["into.weight"].scale) == 128 * 3
    assert sum("state path" in refusal.reason for refusal in report.passes[0].rules[0].refusals) == 2
    assert plan.summary() == {
        "weights of 4 bits in groups": 3,
        "dynamic activations of 8 bits": 3,
        "layers in float": 2,
    }
    # The embedding still reads floats; the head that is tied to it reads whole numbers.
    assert quantised.tensors()["table.weight"].dtype == torch.float32
    assert count(quantised, DEQUANTISE_GROUPS) == count(quantised, DEQUANTISE_ROWS) == 3


@pytest.mark.parametrize("text", [f"lower-scans,{FOUR}", f"lower-scans,{FOUR.replace('activations=dynamic,', '')}"])
def test_state_path_is_known_behind_lowered_scans(text: str) -> None:
    quantised, _ = hy.quantise(mixer(), samples(), text)
    weights = sorted(value.node for value in _plan(quantised).values if value.role == "weight")
    assert weights == ["into.weight", "out.weight", "table.weight"]


def test_state_path_is_rounded_if_asked() -> None:
    quantised, _ = hy.quantise(mixer(), samples(), FOUR.replace("}", ",state=true}"))
    values = {value.node: value for value in _plan(quantised).values if value.role == "weight"}
    assert values["ranks.weight"].group == 32
    assert values["steps.weight"].group is None


def test_float64_agrees_with_float32() -> None:
    quantised, _ = hy.quantise(mixer(), samples(), FOUR)
    double = quantised.to(torch.float64)
    single, other = execute(quantised.methods["forward"]).outputs, execute(double.methods["forward"]).outputs
    assert other[0].dtype == torch.float64
    assert relative_error(single, other) < 1e-4


def test_converts_are_those_of_inputs_alone() -> None:
    from hycompile.quantisation.converts import converts

    quantised, _ = hy.quantise(mixer(), samples(), FOUR)
    assert dict(converts(quantised)) == {
        "quantise: aten.embedding gives floats": 1,
        "quantise: aten.mul.Tensor gives floats": 1,
        "quantise: aten.linear gives floats": 1,
    }


@pytest.mark.parametrize(("inputs", "group", "fits"), [(96, 32, 32), (192, 128, 64), (24, 32, None), (32, 32, None)])
def test_groups_divide_the_inputs(inputs: int, group: int, fits: int | None) -> None:
    assert fit_group(inputs, group) == fits


def test_inputs_that_no_group_divides_stay_in_float() -> None:
    x = torch.randn(2, 100)
    quantised, _ = hy.quantise(captured(nn.Sequential(nn.Linear(100, 4)), x), [x], "quantise{group=32}")
    (kept,) = _plan(quantised).kept
    assert kept.reason == "its 100 inputs do not split into groups of 32, nor of 32 or more"


def test_without_calibration_data_the_examples_tell_the_cost() -> None:
    quantised, _ = hy.Pipeline.parse(FOUR)(mixer())
    measured = _plan(quantised).measured
    assert measured is not None
    assert measured.calls > 0
    assert 0 < measured.output_sqnr < 60
    for text in (FOUR.replace("}", ",rounding=gptq}"), "quantise{bits=4,group=32}"):
        with pytest.raises(PassError, match="has no calibration data"):
            hy.Pipeline.parse(text)(mixer())


def test_a_request_asks_for_calibration_data_only_if_it_chooses() -> None:
    request = hy.Request("language/sambay-tiny", pipeline=f"normalise,lower-scans,{FOUR}")
    assert request.target().precision == "int8"
    with pytest.raises(CaptureError, match="needs calibration data"):
        hy.Request("language/sambay-tiny", pipeline="normalise,quantise").target()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("quantise{activations=dynamic,activation_bits=6}", "dynamic activations of 6 bits"),
        ("quantise{group=24}", "group 24 of weights by channel"),
        ("quantise{group=32,weights=tensor}", "group 32 of weights by tensor"),
    ],
)
def test_options_no_runtime_has_are_refused(text: str, said: str) -> None:
    with pytest.raises(PassError, match=said):
        hy.Pipeline.parse(text)


def test_plan_of_groups_survives_its_file() -> None:
    plan = _plan(hy.quantise(mixer(), samples(), FOUR)[0])
    assert QuantPlan.model_validate_json(plan.model_dump_json()) == plan


@pytest.mark.parametrize(
    "changes",
    [
        {"dynamic": True},
        {"dynamic": True, "scale": (), "zero_point": (), "bits": 4},
        {"scale": (), "zero_point": ()},
        {"group": 32},
        {"role": "weight", "axis": 1, "group": 32},
    ],
)
def test_plan_refuses_groups_and_ranges_that_fit_nothing(changes: dict[str, object]) -> None:
    fields = {"method": "forward", "node": "x", "role": "activation", "bits": 8, "symmetric": False, "axis": None}
    with pytest.raises(ValidationError):
        QuantisedValue.model_validate(fields | {"observer": "row", "scale": (0.1,), "zero_point": (3,)} | changes)
