"""The quantised Program computes what the plan says, in float32 and in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import hycompile as hy
from hycompile.parity import execute, relative_error
from hycompile.quantisation.measure import compare_layers
from tests.passes.quantise.models import Hybrid, hybrid, samples


def _by_hand(model: Hybrid, x: Tensor, grids: dict[str, tuple[float, int]], bits: int) -> Tensor:
    """The stem, with every rounding written out."""

    def on_grid(value: Tensor, name: str) -> Tensor:
        scale, point = grids[name]
        return ((value / scale).round() + point).clamp(-128, 127).sub(point).mul(scale)

    weight = model.stem.weight.detach()
    largest = 2 ** (bits - 1) - 1
    scale = weight.abs().amax((1, 2, 3)) / largest
    rounded = (weight / scale[:, None, None, None]).round() * scale[:, None, None, None]
    assert model.stem.bias is not None
    sums = scale * grids["x"][0]
    bias = (model.stem.bias.detach() / sums).round() * sums
    return on_grid(torch.relu(torch.nn.functional.conv2d(on_grid(x, "x"), rounded, bias, padding=1)), "relu")


@pytest.mark.parametrize("bits", [8, 4])
def test_first_layer_by_hand(bits: int) -> None:
    torch.manual_seed(0)
    model = Hybrid().eval()
    x = samples(1)[0]
    quantised, _ = hy.quantise(hy.capture(model, (x,)), samples(), f"quantise{{bits={bits},min_sqnr=-20.0}}")
    assert quantised.plan is not None
    grids = {value.node: (value.scale[0], value.zero_point[0]) for value in quantised.plan.values}
    seen: dict[str, Tensor] = {}
    execute(quantised.methods["forward"], (x,), watch=lambda node, value: seen.update({node.name: value}))  # type: ignore[dict-item]
    after = next(node for node in quantised.methods["forward"].graph.graph.nodes if node.name == "conv2d_1")
    torch.testing.assert_close(seen[after.args[0].name], _by_hand(model, x, grids, bits), rtol=1e-5, atol=1e-6)


def test_float64_agrees_with_float32() -> None:
    quantised, _ = hy.quantise(hybrid(), samples())
    double = quantised.to(torch.float64)
    single, other = execute(quantised.methods["forward"]).outputs, execute(double.methods["forward"]).outputs
    assert other[0].dtype == torch.float64
    assert relative_error(single, other) < 1e-5
    assert double.to(torch.float32).digest == quantised.to(torch.float64).to(torch.float32).digest


def test_float64_model_is_quantised_by_the_same_plan() -> None:
    single, _ = hy.quantise(hybrid(), samples())
    double, _ = hy.quantise(hybrid().to(torch.float64), [sample.double() for sample in samples()])
    assert single.plan is not None
    assert double.plan is not None
    for one, other in zip(single.plan.values, double.plan.values, strict=True):
        assert (one.node, one.zero_point) == (other.node, other.zero_point)
        assert one.scale == pytest.approx(other.scale, rel=1e-5)


def test_eight_bits_are_nearer_than_six_and_six_than_four() -> None:
    program = hybrid()
    ratios: list[float] = []
    for bits in (8, 6, 4):
        found, _ = hy.quantise(program, samples(), f"quantise{{bits={bits},activation_bits={bits},min_sqnr=-20.0}}")
        ratios.append(compare_layers(program, found, found.calibration).output_sqnr)
    assert ratios[0] > ratios[1] + 6 > ratios[2] + 12


def test_report_counts_and_errs_against_the_float_model() -> None:
    _, report = hy.quantise(hybrid(), samples())
    (rule,) = report.passes[0].rules
    assert rule.hits == 5
    assert rule.facts == {
        "weights of 8 bits": 5,
        "activations of 8 bits": 8,
        "layers in float": 1,
        "quantise and dequantise nodes": 21,
    }
    assert [refusal.node for refusal in rule.refusals] == ["scaled_dot_product_attention"]
    assert report.error_fp32 is not None
    assert 1e-4 < report.error_fp32 < 0.1
    assert report.error_fp64 is None


def test_an_exact_pass_behind_is_proved_against_the_simulation() -> None:
    _, report = hy.quantise(hybrid(), samples(), "quantise,merge-constants")
    assert report.passes[1].rules[0].error_fp32 in (None, 0.0)
    assert report.error_fp32 is not None
    assert report.error_fp32 > 1e-4
