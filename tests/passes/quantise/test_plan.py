"""The plan: a file and back, what it says of the graph, and what it refuses to hold."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

import hycompile as hy
from hycompile.errors import CaptureError
from hycompile.parity import execute
from hycompile.quantisation.nodes import is_dequantise, is_quantise
from hycompile.quantisation.plan import QuantisedValue, QuantPlan
from tests.passes.quantise.models import hybrid, samples
from tests.support import captured


def _value(**changes: object) -> QuantisedValue:
    fields = {"method": "forward", "node": "x", "role": "activation", "bits": 8, "symmetric": False, "axis": None}
    return QuantisedValue.model_validate(fields | {"observer": "minmax", "scale": (0.1,), "zero_point": (3,)} | changes)


def test_plan_survives_its_file() -> None:
    quantised, _ = hy.quantise(hybrid(), samples())
    assert quantised.plan is not None
    assert QuantPlan.model_validate_json(quantised.plan.model_dump_json()) == quantised.plan


def test_plan_survives_the_programs_file_and_calibration_data_stay_outside(tmp_path: Path) -> None:
    quantised, _ = hy.quantise(hybrid(), samples(), "quantise{bits=4,min_sqnr=-20.0,sensitivity=1}")
    quantised.save(tmp_path / "program.hyc")
    loaded = hy.capture(tmp_path / "program.hyc")
    assert loaded.plan is not None
    assert loaded.plan == quantised.plan
    assert loaded.calibration == ()
    one, other = (execute(each.methods["forward"]).outputs[0] for each in (quantised, loaded))
    assert torch.equal(one, other)
    names = {node.name for node in loaded.methods["forward"].graph.graph.nodes}
    assert {value.node for value in loaded.plan.values if value.role == "activation"} <= names


def test_a_file_whose_plan_is_none(tmp_path: Path) -> None:
    quantised, _ = hy.quantise(hybrid(), samples())
    replace(quantised, plan=None).save(tmp_path / "program.hyc")
    with zipfile.ZipFile(tmp_path / "program.hyc", "a") as file:
        file.writestr("quantisation.json", '{"values": [{"bits": 99}]}')
    with pytest.raises(CaptureError, match="a damaged program archive"):
        hy.capture(tmp_path / "program.hyc")


@pytest.mark.parametrize(
    "changes",
    [{"zero_point": (128,)}, {"scale": (0.0,)}, {"scale": (0.1, 0.2)}, {"bits": 9}, {"bits": 4, "zero_point": (8,)}],
)
def test_plan_refuses_what_no_runtime_could_hold(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        _value(**changes)


def test_graph_holds_what_the_plan_says() -> None:
    quantised, _ = hy.quantise(hybrid(), samples(), "quantise{bits=4,activation_bits=6}")
    plan, graph = quantised.plan, quantised.methods["forward"].graph.graph
    assert plan is not None
    for node in graph.nodes:
        if is_quantise(node):
            value = plan.of("forward", node.all_input_nodes[0].name)
            assert value is not None
            assert tuple(node.args[1:5]) == (value.scale[0], value.zero_point[0], -32, 31)
    weights = {value.node: value for value in plan.values if value.role == "weight"}
    stored = {name: tensor for name, tensor in quantised.tensors().items() if tensor.dtype == torch.int8}
    assert {f"{name}_int8" for name in weights} == set(stored)
    assert all(int(tensor.abs().max()) <= 7 for tensor in stored.values())


def test_values_moved_about_keep_their_grid() -> None:
    """A runtime can then move whole numbers: the second rounding changes nothing."""
    quantised, _ = hy.quantise(hybrid(), samples())
    rounded = [node for node in quantised.methods["forward"].graph.graph.nodes if is_quantise(node)]
    again = [node for node in rounded if node.all_input_nodes[0].name.startswith("transpose")]
    source = next(node for node in rounded if node.all_input_nodes[0].name == "conv2d_2")
    assert [node.args[1:] for node in again] == [source.args[1:]]


class _Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 8)
        self.first = nn.Linear(8, 8)

    def forward(self, index: Tensor) -> Tensor:
        x = self.first(self.table(index))
        return nn.functional.linear(self.first(x), self.table.weight)


def test_a_weight_of_several_readers_is_stored_once_and_floats_stay_for_the_others() -> None:
    program = captured(_Tied(), torch.arange(6))
    quantised, _ = hy.quantise(program, [torch.arange(6)])
    tensors = quantised.tensors()
    assert sorted(name for name in tensors if name.endswith("_int8")) == ["first.weight_int8", "table.weight_int8"]
    assert tensors["table.weight"].dtype == torch.float32
    dequantised = [node for node in quantised.methods["forward"].graph.graph.nodes if is_dequantise(node)]
    assert sum(node.all_input_nodes[0].op == "get_attr" for node in dequantised) == 2


class _Dead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.head = nn.Linear(4, 3), nn.Linear(3, 2)
        with torch.no_grad():
            self.linear.weight[1] = 0.0

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.linear(x))


def test_bias_of_a_dead_channel_fits_into_32_bits() -> None:
    """Its weights are all zero: on the smallest scale the bias would be a number beyond 2^31."""
    torch.manual_seed(0)
    quantised, _ = hy.quantise(captured(_Dead(), 1e-3 * torch.randn(2, 4)), [1e-3 * torch.randn(2, 4)])
    plan, method = quantised.plan, quantised.methods["forward"]
    assert plan is not None
    given, weight = plan.of("forward", "x"), plan.of("forward", "linear.weight")
    assert given is not None
    assert weight is not None
    bias = quantised.tensors()["linear.bias_of_linear"].double()
    sums = bias / (torch.tensor(weight.scale).double() * given.scale[0])
    assert sums.abs().max() <= 2**30 + 1
    assert ((sums - sums.round()).abs() <= 1e-6 * sums.abs() + 1e-3).all()
    assert execute(method).outputs[0].isfinite().all()
