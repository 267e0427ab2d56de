"""What cannot be quantised, with the reason; and the budget."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import hycompile as hy
from hycompile.errors import CaptureError, ParityError, PassError
from tests.passes.quantise.models import hybrid, samples
from tests.support import captured


class _WeightComputed(nn.Module):
    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        return nn.functional.linear(x, weight)


class _Products(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        return y @ y.transpose(-1, -2)


def test_a_layer_whose_weight_is_computed_stays_in_float() -> None:
    program = captured(_WeightComputed(), torch.randn(2, 4), torch.randn(3, 4))
    _, report = hy.quantise(program, [(torch.randn(2, 4), torch.randn(3, 4))])
    assert report.passes[0].hits == 0
    assert [refusal.reason for refusal in report.passes[0].rules[0].refusals] == ["its weight is computed at run time"]


def test_products_are_rounded_only_if_asked_for() -> None:
    program, given = captured(_Products(), torch.randn(2, 3, 4)), [torch.randn(2, 3, 4)]
    _, report = hy.quantise(program, given)
    assert report.passes[0].hits == 1
    assert "products of two values" in report.passes[0].rules[0].refusals[0].reason
    _, report = hy.quantise(program, given, "quantise{products=true}")
    assert report.passes[0].hits == 2
    assert report.passes[0].rules[0].refusals == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("quantise{bits=9}", "2 to 8"),
        ("quantise{activation_bits=1}", "2 to 8"),
        ("quantise{observer=median}", "no observer 'median'; one of minmax"),
        ("quantise{weights=group}", "channel or tensor"),
        ("quantise{activations=both}", "asymmetric, symmetric or dynamic"),
    ],
)
def test_options(text: str, told: str) -> None:
    with pytest.raises(PassError, match=told):
        hy.quantise(hybrid(), samples(), text)


def test_without_calibration_data() -> None:
    with pytest.raises(PassError, match=r"has no calibration data.*give --calibration DIR"):
        hy.Pipeline.parse("quantise")(hybrid())


def test_twice() -> None:
    with pytest.raises(PassError, match="is quantised already"):
        hy.quantise(hybrid(), samples(), "quantise,quantise")


def test_budget_names_the_layers_to_blame() -> None:
    with pytest.raises(ParityError, match=r"ratio .* dB on the calibration set, budget 70.0 dB; layers to blame: "):
        hy.quantise(hybrid(), samples(), "quantise{min_sqnr=70.0}")


class _TwoMethods(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)

    def back(self, x: Tensor) -> Tensor:
        return self.linear(-x)


def test_a_value_that_no_sample_reaches() -> None:
    calls = {"forward": hy.Call((torch.randn(2, 4),)), "back": hy.Call((torch.randn(2, 4),), function="back")}
    program = hy.capture(_TwoMethods().eval(), methods=calls)
    with pytest.raises(PassError, match="method 'back', value 'neg': is never reached by the calibration set"):
        hy.quantise(program, [torch.randn(2, 4)])
    both = [hy.Step("forward", (torch.randn(2, 4),)), hy.Step("back", (torch.randn(2, 4),))]
    quantised, _ = hy.quantise(program, both)
    one, other = (method.graph for method in quantised.methods.values())
    assert one.get_buffer("linear.weight_int8").data_ptr() == other.get_buffer("linear.weight_int8").data_ptr()


class _Log(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.log())


def test_a_value_that_is_no_number_inside() -> None:
    program = captured(_Log(), torch.rand(2, 4) + 1)
    with pytest.raises(PassError, match="value 'log' of method 'forward': is NaN or infinite"):
        hy.quantise(program, [torch.zeros(2, 4)])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "the calibration set: is empty"),
        (
            [torch.randn(3, 2, 6, 6)],
            r"sample 0, input 'x': is float32\[3, 2, 6, 6\], the method takes float32\[2, 2, 6",
        ),
        ([torch.randn(2, 2, 6, 6).double()], "is float64.*the method takes float32"),
        ([samples()[0], torch.full((2, 2, 6, 6), float("nan"))], "sample 1, input 'x': holds NaN"),
        ([torch.full((2, 2, 6, 6), float("inf"))], "holds infinity"),
        ([{"y": samples()[0]}], "sample 0: holds 'y'; the inputs are 'x'"),
        ([(samples()[0], samples()[1])], "gives 2 inputs, the method takes 1"),
        ([hy.Step("decode", (samples()[0],))], "has no such method"),
    ],
)
def test_calibration_samples_that_do_not_fit(given: list[object], told: str) -> None:
    with pytest.raises(CaptureError, match=told):
        hy.quantise(hybrid(), given)  # type: ignore[arg-type]
