"""GPTQ: layers as matrix products, what it gains, and where rounding stays as it is."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import hycompile as hy
from hycompile.attributes import put_tensor, tensor_at
from hycompile.passes.quantise.draft import Draft
from hycompile.passes.quantise.grid import Grid
from hycompile.passes.quantise.methods import METHODS, Search
from hycompile.passes.quantise.rounding import lockstep
from hycompile.passes.quantise.rounding.columns import MULTIPLIED, input_columns, weight_rows
from hycompile.passes.quantise.rounding.gptq import compensated, gptq
from hycompile.program import Program
from hycompile.quantisation.calibration import calibration
from hycompile.schema import is_call
from tests.passes.quantise.models import hybrid, samples
from tests.support import captured

LAYERS: list[tuple[nn.Linear | nn.Conv1d | nn.Conv2d, tuple[int, ...]]] = [
    (nn.Linear(6, 4), (2, 3, 6)),
    (nn.Conv2d(6, 4, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2)), (2, 6, 7, 8)),
    (nn.Conv2d(6, 9, 3, groups=3, bias=False), (2, 6, 5, 5)),
    (nn.Conv2d(6, 6, 3, groups=6, padding="same"), (2, 6, 5, 5)),
    (nn.Conv2d(6, 4, (3, 1), padding="same", dilation=(2, 1)), (2, 6, 5, 5)),
    (nn.Conv1d(6, 4, 3, stride=2, padding=1, groups=2), (2, 6, 8)),
    (nn.Conv2d(6, 4, 3, padding="valid"), (6, 5, 5)),
]


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=[str(number) for number in range(len(LAYERS))])
def test_layers_are_products_of_rows_and_columns(
    layer: nn.Linear | nn.Conv1d | nn.Conv2d, shape: tuple[int, ...]
) -> None:
    x = torch.randn(shape)
    graph = captured(layer, x).methods["forward"].graph.graph
    node = next(node for node in graph.nodes if is_call(node, *MULTIPLIED))
    product = (weight_rows(node, layer.weight) @ input_columns(node, x, 10**9)).flatten(0, 1)
    if layer.bias is not None:  # pyright: ignore[reportUnnecessaryComparison] - bias=False
        product = product + layer.bias[:, None]
    axis = -1 if isinstance(layer, nn.Linear) else len(shape) - (3 if isinstance(layer, nn.Conv2d) else 2)
    torch.testing.assert_close(product, layer(x).movedim(axis, 0).flatten(1), rtol=1e-4, atol=1e-5)


def _problem(inputs: int, bits: int) -> tuple[Tensor, Tensor, Grid, Tensor]:
    """Weights ``[2, 5, in]`` and inputs that resemble one another."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(2, 5, inputs, generator=generator).double()
    mixed = torch.randn(2, inputs, inputs, generator=generator) + 2
    values = (mixed @ torch.randn(2, inputs, 400, generator=generator)).double()
    grid = Grid(bits, symmetric=True)
    return weight, values @ values.mT, grid, weight.abs().amax(2, keepdim=True) / grid.high


def _error(whole: Tensor, weight: Tensor, moments: Tensor, scale: Tensor) -> Tensor:
    """Squared error of the outputs, ``[2, 5]``."""
    off = whole * scale - weight
    return ((off @ moments) * off).sum(2)


def test_gptq_is_far_better_than_nearest_where_inputs_are_alike() -> None:
    weight, moments, grid, scale = _problem(32, 4)
    nearest = (weight / scale).round()
    found = gptq(weight, moments, grid, scale)
    assert torch.equal(found, found.round().clamp(grid.low, grid.high))
    assert _error(found, weight, moments, scale).sum() < 0.35 * _error(nearest, weight, moments, scale).sum()


def test_gptq_is_near_the_best_there_is() -> None:
    weight, moments, grid, scale = _problem(4, 3)
    found = _error(gptq(weight, moments, grid, scale), weight, moments, scale)
    every = torch.tensor(list(itertools.product(range(grid.low, grid.high + 1), repeat=4))).double()
    best = torch.stack([_error(whole.expand_as(weight), weight, moments, scale) for whole in every]).amin(0)
    nearest = _error((weight / scale).round(), weight, moments, scale)
    assert (found >= best - 1e-9).all()
    assert found.sum() - best.sum() < 0.5 * (nearest.sum() - best.sum())


def test_gptq_of_inputs_that_have_nothing_in_common_is_nearest() -> None:
    weight, moments, grid, scale = _problem(8, 4)
    alone = torch.diag_embed(moments.diagonal(dim1=1, dim2=2))
    alone[:, 3] = 0.0
    assert torch.equal(gptq(weight, alone, grid, scale), (weight / scale).round())


def test_what_layers_before_lost_is_made_good() -> None:
    """Inputs that came out twice as large are read with half the weight, up to the damping."""
    weight, moments, _, _ = _problem(8, 4)
    zero, one = torch.zeros(()), torch.ones(())
    torch.testing.assert_close(compensated(weight, moments, moments, zero), weight)
    half = compensated(weight, 4 * moments, 2 * moments, zero)
    left, all_of_it = (_error(found, weight / 2, moments, one).sum() for found in (half, 0 * half))
    assert left < 0.01 * all_of_it


class _Shifted(nn.Module):
    """A layer whose inputs all have the same mean."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).relu()


def test_what_a_bias_has_lost_is_made_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bias that a search has changed: the weights bring the difference back."""
    torch.manual_seed(0)
    program = captured(_Shifted(), torch.randn(8, 16) + 1)
    given = [torch.randn(8, 16) + 1 for _ in range(16)]

    class _Shift(Search):
        name = "shift"

        def run(self, program: Program, drafts: Mapping[str, Draft]) -> None:
            module = program.methods["forward"].graph
            put_tensor(module, "linear.bias", tensor_at(module, "linear.bias") + 0.5)

    monkeypatch.setitem(METHODS, "shift", _Shift)
    text = "quantise{rounding=gptq,method=shift,min_sqnr=-20.0}"
    plans = [hy.quantise(program, given, each)[0].plan for each in (text.replace("rounding=gptq,", ""), text)]
    ratios = [plan.measured.output_sqnr for plan in plans if plan is not None and plan.measured is not None]
    assert ratios[1] > ratios[0] + 6


def _weights(program: Program) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in program.tensors().items() if tensor.dtype == torch.int8}


def test_outputs_stay_nearer_and_grids_stay_the_same() -> None:
    text = "quantise{bits=4,min_sqnr=-20.0}"
    nearest, _ = hy.quantise(hybrid(), samples(16), text)
    found, report = hy.quantise(hybrid(), samples(16), text.replace("bits", "rounding=gptq,bits"))
    assert nearest.plan is not None
    assert found.plan is not None
    assert found.plan.values == nearest.plan.values
    assert found.text() == nearest.text()
    assert report.passes[0].rules[0].facts["weights rounded by GPTQ"] == 5
    assert _weights(found).keys() == _weights(nearest).keys()
    for name, whole in _weights(found).items():
        assert whole.abs().max() <= 7
        assert (whole - _weights(nearest)[name]).abs().max() > 0
    assert found.plan.measured is not None
    assert nearest.plan.measured is not None
    assert found.plan.measured.output_sqnr > nearest.plan.measured.output_sqnr + 3


@pytest.mark.parametrize(("room", "calls"), [(6 * 864, 6), (3 * 864, 3), (1, 1)])
def test_no_more_calls_than_memory_holds(room: int, calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One call of two images holds 864 numbers at most: queries, keys and values."""
    monkeypatch.setattr(lockstep, "_MOST_HELD", room)
    program = replace(hybrid(), calibration=calibration(hybrid(), samples(6)))
    begun = lockstep.starts(program, "forward")
    assert len(begun) == 6
    kept = lockstep.affordable(program.methods["forward"], begun)
    assert len(kept) == calls
    assert kept[0] is begun[0]


def test_twice_the_same_numbers() -> None:
    text = "quantise{bits=4,rounding=gptq,group=16,activation_bits=0}"
    one, other = (hy.quantise(hybrid(), samples(), text)[0] for _ in "12")
    assert one.digest == other.digest


class _Left(nn.Module):
    """A transposed convolution, and a linear that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.twice, self.head = nn.ConvTranspose2d(4, 6, 2), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.up(x).flatten(2).transpose(1, 2)
        return self.head(self.twice(self.twice(y).relu()))


def test_other_layers_stay_with_the_nearest() -> None:
    torch.manual_seed(0)
    program, given = captured(_Left(), torch.randn(1, 4, 4, 4)), [torch.randn(1, 4, 4, 4) for _ in range(4)]
    nearest, _ = hy.quantise(program, given, "quantise{bits=4,min_sqnr=-20.0}")
    found, report = hy.quantise(program, given, "quantise{bits=4,rounding=gptq,min_sqnr=-20.0}")
    same = {name: torch.equal(whole, _weights(nearest)[name]) for name, whole in _weights(found).items()}
    assert same == {"up.weight_int8": True, "twice.weight_int8": True, "head.weight_int8": False}
    assert report.passes[0].rules[0].facts["weights rounded by GPTQ"] == 1


class _Counter(nn.Module):
    """State that every call adds to, and two methods over one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)
        self.total: Tensor
        self.register_buffer("total", torch.zeros(2, 6))

    def forward(self, x: Tensor) -> Tensor:
        self.total.copy_(self.total + self.linear(x))
        return self.linear(self.total)

    def once(self, x: Tensor) -> Tensor:
        return self.linear(x)


def test_state_goes_on_and_a_weight_of_two_methods_stays_one() -> None:
    torch.manual_seed(0)
    calls = {"forward": hy.Call((torch.randn(2, 6),)), "once": hy.Call((torch.randn(2, 6),), function="once")}
    program = hy.capture(_Counter().eval(), methods=calls)
    steps = [hy.Step(name, (torch.randn(2, 6),)) for name in ("forward", "forward", "once", "once", "once")]
    found, report = hy.quantise(program, steps, "quantise{bits=4,rounding=gptq,min_sqnr=-20.0}")
    assert report.passes[0].rules[0].facts["weights rounded by GPTQ"] == 1
    one, other = (method.graph for method in found.methods.values())
    assert one.get_buffer("linear.weight_int8").data_ptr() == other.get_buffer("linear.weight_int8").data_ptr()


def test_option() -> None:
    with pytest.raises(hy.errors.PassError, match="no rounding 'up'; one of nearest, gptq"):
        hy.quantise(hybrid(), samples(), "quantise{rounding=up}")
