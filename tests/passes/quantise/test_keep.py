"""Layers that are kept in float, or in more bits: by name, and as few as a budget needs."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

import hycompile as hy
from hycompile.attributes import put_tensor, tensor_at
from hycompile.errors import PassError
from hycompile.evaluation import Run
from hycompile.parity import execute, relative_error
from hycompile.passes.quantise.draft import Draft
from hycompile.passes.quantise.keep import fewest
from hycompile.passes.quantise.methods import METHODS, Search
from hycompile.program import Program
from hycompile.quantisation.measure import compare_layers
from hycompile.quantisation.nodes import is_layer
from hycompile.quantisation.plan import QuantisedValue, QuantPlan
from tests.passes.quantise.models import hybrid, samples

LAYERS = ("conv2d", "conv2d_1", "conv2d_2", "linear", "linear_1")


def _rounded(program: Program) -> set[str]:
    return {node.name for node in program.methods["forward"].graph.graph.nodes if is_layer(node)}


def _plan(program: Program) -> QuantPlan:
    assert program.plan is not None
    return program.plan


def _kept(program: Program) -> set[str]:
    return {layer.node for layer in _plan(program).kept} - {"scaled_dot_product_attention"}


def _weights(left: set[str]) -> list[str]:
    weights = dict(zip(LAYERS, ("stem", "mix", "point", "qkv", "head"), strict=True))
    return [f"{name}.weight" for node, name in weights.items() if node not in left]


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        ("conv2d_1", {"conv2d_1"}),
        ("qkv.weight", {"linear"}),
        ("conv*,head*", {"conv2d", "conv2d_1", "conv2d_2", "linear_1"}),
    ],
)
def test_named_layers_stay_in_float(patterns: str, left: set[str]) -> None:
    quantised, report = hy.quantise(hybrid(), samples(), f'quantise{{keep="{patterns}"}}')
    assert _rounded(quantised) == set(LAYERS) - left
    assert _kept(quantised) == left
    assert report.passes[0].hits == len(LAYERS) - len(left)
    assert {value.node for value in _plan(quantised).values if value.role == "weight"} <= set(_weights(left))
    double = quantised.to(torch.float64)
    single, other = execute(quantised.methods["forward"]).outputs, execute(double.methods["forward"]).outputs
    assert relative_error(single, other) < 1e-5


def test_a_kept_layer_reads_and_gives_floats() -> None:
    quantised, _ = hy.quantise(hybrid(), samples(), "quantise{keep=conv2d_1}")
    nodes = {node.name: node for node in quantised.methods["forward"].graph.graph.nodes}
    assert nodes["silu"].all_input_nodes == [nodes["conv2d_1"]]
    assert nodes["conv2d_1"].all_input_nodes[1].name == "mix_weight"


def test_a_name_that_fits_nothing_is_told_with_those_that_do() -> None:
    with pytest.raises(PassError, match=r"keep=stem: fits no layer that is quantised; these are: conv2d, conv2d_1"):
        hy.quantise(hybrid(), samples(), 'quantise{keep="stem,head*"}')


def test_everything_kept_is_the_float_model() -> None:
    quantised, report = hy.quantise(hybrid(), samples(), 'quantise{keep="*"}')
    assert report.passes[0].hits == 0
    one, other = (execute(each.methods["forward"]).outputs for each in (quantised, hybrid()))
    assert relative_error(one, other) == 0.0


@pytest.mark.parametrize("budget", [22.0, 30.0])
def test_automatically_the_fewest_that_hold_the_budget(budget: float) -> None:
    text = "quantise{{bits=4,min_sqnr={},keep={}}}"
    quantised, _ = hy.quantise(hybrid(), samples(), text.format(budget, "auto"))
    kept, measured, sensitivity = _kept(quantised), _plan(quantised).measured, _plan(quantised).sensitivity
    assert measured is not None
    assert sensitivity is not None
    assert measured.output_sqnr >= budget
    assert {layer.node for layer in sensitivity.layers if layer.kept == "float"} == kept
    # One fewer of them, in the order of harm, does not hold it.
    harm = [layer.node for layer in sorted(sensitivity.layers, key=lambda layer: layer.alone)]
    assert kept == set(harm[: len(kept)])
    assert kept
    fewer, _ = hy.quantise(hybrid(), samples(), text.format(-20.0, f'"{",".join(harm[: len(kept) - 1])}"'))
    assert compare_layers(hybrid(), fewer, fewer.calibration).output_sqnr < budget


def test_nothing_is_kept_where_the_budget_holds_anyway() -> None:
    assert _kept(hy.quantise(hybrid(), samples(), "quantise{keep=auto}")[0]) == set()


def test_kept_layers_take_more_bits() -> None:
    text = "quantise{bits=4,activation_bits=6,min_sqnr=-20.0,keep=linear,kept_bits=8}"
    mixed, _ = hy.quantise(hybrid(), samples(), text)
    bits = {value.node: value.bits for value in _plan(mixed).values}
    assert bits["qkv.weight"] == bits["transpose"] == bits["conv2d_2"] == 8
    assert {bits[name] for name in ("stem.weight", "mix.weight", "head.weight")} == {4}
    assert {bits[name] for name in ("x", "relu", "silu", "mean")} == {6}
    narrow, _ = hy.quantise(hybrid(), samples(), text.replace("keep=linear,", ""))
    ratios = [compare_layers(hybrid(), each, each.calibration).output_sqnr for each in (mixed, narrow)]
    assert ratios[0] > ratios[1]


def test_size_budget_keeps_what_fits() -> None:
    # 72 + 36 + 16 + 48 + 20 weights: 96 bytes at 4 bits, and 4 bits more for each that is kept.
    text = "quantise{bits=4,min_sqnr=-20.0,keep=auto,kept_bits=8,max_mb=%s}"
    mixed, _ = hy.quantise(hybrid(), samples(), text % "0.00013")
    values = {value.node: value.bits for value in _plan(mixed).values if value.role == "weight"}
    sizes = {"stem.weight": 72, "mix.weight": 36, "point.weight": 16, "qkv.weight": 48, "head.weight": 20}
    assert 4 < sum(values.values()) / 5 < 8
    used = sum(sizes[name] * bits / 8 for name, bits in values.items())
    assert used <= 130
    assert all(used + sizes[name] / 2 > 130 for name, bits in values.items() if bits == 4)
    with pytest.raises(PassError, match=r"max_mb=5e-05: the weights take 9.6e-05 MB at 4 bits"):
        hy.quantise(hybrid(), samples(), text % "0.00005")


@pytest.mark.parametrize(
    ("options", "told"),
    [("kept_bits=8", "above bits=8"), ("bits=4,kept_bits=9", "at most 8"), ("max_mb=1.0", "keep=auto")],
)
def test_options_that_make_no_sense(options: str, told: str) -> None:
    with pytest.raises(PassError, match=told):
        hy.quantise(hybrid(), samples(), f"quantise{{{options}}}")


def test_an_evaluation_decides_how_many_are_kept() -> None:
    """A score that counts rows in the float model's place: the budget needs some layers in float."""
    inputs, asked = samples(12), list[float]()
    known = [execute(hybrid().methods["forward"], (x,)).outputs[0] for x in inputs]

    def near(run: Run) -> float:
        worst = max(float((run(x)[0] - y).abs().max() / y.abs().max()) for x, y in zip(inputs, known, strict=True))
        asked.append(100 * (1 - worst))
        return asked[-1]

    text = "quantise{bits=3,min_sqnr=-20.0,keep=auto}"
    quantised, _ = hy.quantise(hybrid(), samples(), text, evaluate=near, max_drop=12.0)
    assert asked[0] == 100.0
    assert asked[1] < 88.0 <= asked[-1]
    assert 0 < len(_kept(quantised)) < len(LAYERS)


class _Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.head = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.linear(x))

    def back(self, x: Tensor) -> Tensor:
        return self.head(-self.linear(x))


def test_layers_that_share_a_weight_are_kept_together() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 4)
    calls = {"forward": hy.Call((x,)), "back": hy.Call((x,), function="back")}
    program = hy.capture(_Shared().eval(), methods=calls)
    steps = [hy.Step(name, (torch.randn(2, 4),)) for name in ("forward", "back") for _ in range(4)]
    quantised, _ = hy.quantise(program, steps, "quantise{bits=3,min_sqnr=20.0,keep=auto}")
    kept = [(layer.method, layer.node) for layer in _plan(quantised).kept]
    assert len(kept) in (2, 4)
    assert {method for method, _ in kept} == {"forward", "back"}


def test_the_shortest_beginning_that_holds() -> None:
    order = [(("forward", str(number)),) for number in range(23)]
    for needed in (0, 1, 2, 3, 7, 16, 22, 23):
        asked: list[int] = []
        found = fewest(order, lambda kept: asked.append(len(kept)) or len(kept) >= needed)  # noqa: B023
        assert len(found) == needed
        assert len(asked) <= 11
    assert fewest(order, lambda kept: False) == order


class _Doubles(Search):
    """Replaces every weight by its double, as a search may that finds a better one."""

    name = "doubles"

    def run(self, program: Program, drafts: Mapping[str, Draft]) -> None:
        for method, draft in drafts.items():
            for name, found in list(draft.weights.items()):
                graph = program.methods[method].graph
                put_tensor(graph, name, 2 * tensor_at(graph, name).detach())
                draft.weights[name] = found.times(2.0, self.name)


def test_layers_that_are_kept_have_the_float_models_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search changes what is rounded and nothing else."""
    monkeypatch.setitem(METHODS, "doubles", _Doubles)
    text = "quantise{method=doubles,activation_bits=0,min_sqnr=-50.0,keep=conv2d_1}"
    quantised, _ = hy.quantise(hybrid(), samples(), text)
    graph = quantised.methods["forward"].graph
    known = hybrid().methods["forward"].graph
    assert torch.equal(tensor_at(graph, "mix.weight"), tensor_at(known, "mix.weight"))
    plan = _plan(quantised).of("forward", "stem.weight")
    plain = _plan(hy.quantise(hybrid(), samples(), "quantise{activation_bits=0}")[0]).of("forward", "stem.weight")
    assert plan is not None
    assert plain is not None
    assert plan.scale == pytest.approx([2 * scale for scale in plain.scale])
    assert torch.equal(tensor_at(graph, "stem.weight_int8"), _whole(known, plain))


def _whole(graph: nn.Module, value: QuantisedValue) -> Tensor:
    scale = torch.tensor(value.scale)[:, None, None, None]
    return (tensor_at(graph, value.node).detach() / scale).round().clamp(value.low, value.high).to(torch.int8)
