"""Operators between layers: which compute on whole numbers, on which grids, and what converts are left."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import hycompile as hy
from hycompile.parity import Proof
from hycompile.passes.quantise.between import operators_between
from hycompile.passes.quantise.layers import survey
from hycompile.passes.quantise.split_silu import split_silu
from hycompile.program import Program
from hycompile.quantisation.converts import converts
from hycompile.quantisation.nodes import is_quantise
from hycompile.rewrite import apply
from hycompile.schema import operator_name
from tests.conftest import Golden
from tests.passes.quantise.models import between, images
from tests.support import captured


def _whole(program: Program) -> list[str]:
    method = program.methods["forward"]
    found = operators_between(method, survey(method, products=False, outputs=True).layers)
    return [operator_name(layer.node).removeprefix("aten.").partition(".")[0] for layer in found]


def test_operators_between_convolutions_are_whole_and_sums_between_norms_are_not() -> None:
    program = between().copy()
    apply(split_silu, program)
    assert _whole(program) == [
        *("sigmoid", "mul", "hardswish", "add"),
        *("adaptive_avg_pool2d", "sigmoid", "mul", "cat", "add", "gelu"),
    ]


def test_converts_are_few_and_each_has_its_reason() -> None:
    quantised, _ = hy.quantise(between(), images(), "quantise{between=whole}")
    assert dict(converts(quantised)) == {
        "quantise: an input of the model": 1,
        "quantise: aten.layer_norm gives floats": 2,
        "quantise: aten.mean.dim gives floats": 1,
        "dequantise: aten.add.Tensor and aten.layer_norm read floats": 1,
        "dequantise: aten.add.Tensor reads floats": 2,
        "dequantise: aten.linear reads floats": 1,
    }
    floats, _ = hy.quantise(between(), images())
    assert sum(count for _, count in converts(floats)) == 14


def test_plan_names_what_is_rounded() -> None:
    quantised, _ = hy.quantise(between(), images(), "quantise{between=whole}")
    assert quantised.plan is not None
    rounded = {
        node.all_input_nodes[0].name for node in quantised.methods["forward"].graph.graph.nodes if is_quantise(node)
    }
    assert rounded == {value.node for value in quantised.plan.values if value.role == "activation"}
    assert {"sigmoid", "mul", "hardswish", "add", "cat", "gelu"} <= rounded


class _Parts(nn.Module):
    """Both parts of a concatenation are values of others: one moved about as a whole, one only a piece."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.last = nn.Conv2d(2, 4, 1), nn.Conv2d(2, 4, 1), nn.Conv2d(6, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        one, two = self.one(x).transpose(2, 3), 9 * self.two(3 * x)
        return self.last(torch.cat((one, self.two(x)[:, :2]), 1)) + two.mean()


def test_parts_of_a_concatenation_have_one_grid() -> None:
    """As XNNPACK needs them. A piece has the grid of the whole as long as it is no part."""
    program = captured(_Parts(), torch.randn(1, 2, 5, 5))
    quantised, _ = hy.quantise(program, [torch.randn(1, 2, 5, 5) for _ in range(4)], "quantise{between=whole}")
    plan = quantised.plan
    assert plan is not None
    grids = {value.node: (value.scale, value.zero_point) for value in plan.values}
    assert grids["conv2d"] == grids["transpose"] == grids["slice_1"] == grids["cat"]
    assert grids["conv2d_2"] != grids["cat"]


class _Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Conv2d(2, 2, 1), nn.Conv2d(4, 2, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        one = self.one(x)
        two = self.two(torch.cat((one, one.square()), 1))
        return self.three(torch.cat((one, two), 1)).mean(1)


def test_a_value_is_part_of_one_concatenation_on_whole_numbers() -> None:
    assert _whole(captured(_Shared(), torch.randn(1, 2, 5, 5))).count("cat") <= 1


def _chain(act: Callable[[Tensor], Tensor]) -> Program:
    class Chain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            return self.two(act(self.one(x)))

    return captured(Chain(), torch.randn(3, 6))


@pytest.mark.parametrize(
    ("act", "whole"),
    [
        (torch.tanh, ["tanh"]),
        (F.gelu, ["gelu"]),
        (lambda x: F.gelu(x, approximate="tanh"), []),
        (F.relu, []),  # Part of the layer.
        (lambda x: x + 1, []),
        (lambda x: torch.add(x, x.relu(), alpha=2), []),
        (lambda x: x - x.relu(), ["relu", "sub"]),
        (F.softplus, []),
    ],
    ids=["tanh", "gelu", "tanh gelu", "relu", "number", "alpha", "difference", "softplus"],
)
def test_which_operators_there_are(act: Callable[[Tensor], Tensor], whole: list[str]) -> None:
    assert _whole(_chain(act)) == whole


def test_silu_is_a_table_and_a_product(golden: Golden) -> None:
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.float64, 1e-14)):
        program = captured(nn.SiLU(), torch.randn(3, 6)).to(dtype)
        proof, before = Proof(program), program.text()
        assert apply(split_silu, program).hits == 1
        assert proof.check(program, "split_silu", budget=tolerance) <= tolerance
        if dtype == torch.float32:
            golden("split_silu/plain", before, program.text())
