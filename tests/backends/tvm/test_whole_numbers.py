"""Layers on whole numbers: equal to the quantised ones, and left alone where that form does not hold."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import hycompile as hy
from hycompile.backends.tvm.whole_numbers import fold_weights, multiply_whole_numbers, take_whole_numbers
from hycompile.parity import execute
from hycompile.program import Program
from hycompile.quantisation.nodes import is_dequantise, is_quantise
from hycompile.schema import is_call
from hycompile.text import graph_text
from tests.passes.quantise.models import hybrid, samples
from tests.support import captured

# torch makes floats of whole numbers in float32, whatever type it gives them afterwards.
_TOLERANCE = 1e-6
Golden = Callable[[str, str, str], None]


def _quantised(text: str = "quantise{bits=4,min_sqnr=0.0}") -> Program:
    return hy.quantise(hybrid(), samples(16), text)[0]


def _text(program: Program) -> str:
    """Scales have too many digits for every machine to agree on."""
    text = graph_text(program.methods["forward"].graph)
    return re.sub(r"(scale|other)=([-\d.e]+)", lambda found: f"{found[1]}={float(found[2]):.3g}", text)


def _differs(program: Program, other: Program, x: Tensor) -> float:
    known, found = (execute(each.methods["forward"], (x,)).outputs[0] for each in (program, other))
    return float((known - found).abs().max() / known.abs().max())


def test_form(golden: Golden) -> None:
    program = _quantised("quantise")
    before = _text(program)
    hits = take_whole_numbers(program.methods["forward"].graph)
    assert hits == {"multiply_whole_numbers": 5, "round_in_float": 3}
    golden("take_whole_numbers/hybrid", before, _text(program))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "text", ["quantise", "quantise{bits=4,activation_bits=6,min_sqnr=0.0}", "quantise{weights=tensor}"]
)
def test_equal(text: str, dtype: torch.dtype) -> None:
    program = _quantised(text).to(dtype)
    whole = program.copy()
    assert take_whole_numbers(whole.methods["forward"].graph)["multiply_whole_numbers"] == 5
    for x in samples(4):
        assert _differs(program, whole, x.to(dtype)) < _TOLERANCE


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_padding_stride_and_groups(dtype: torch.dtype) -> None:
    """Zero padding is a zero of the values, wherever their zero point lies."""
    torch.manual_seed(0)
    convolution = nn.Conv2d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2)
    images = [torch.rand(2, 4, 9, 9) + shift for shift in (0.5, -1.5)]
    program, _ = hy.quantise(captured(convolution, images[0]), images)
    program = program.to(dtype)
    whole = program.copy()
    assert multiply_whole_numbers(whole.methods["forward"].graph) == 1
    assert _differs(program, whole, images[0].to(dtype)) < _TOLERANCE


class _Reader(nn.Module):
    """The same values read by two layers, and by an addition in float."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(4, 4), nn.Linear(4, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.one(x) + self.other(x)


def test_values_are_centred_once() -> None:
    images = [torch.rand(2, 4) for _ in range(4)]
    program, _ = hy.quantise(captured(_Reader(), images[0]), images)
    graph = program.methods["forward"].graph
    assert take_whole_numbers(graph) == {"multiply_whole_numbers": 2, "round_in_float": 2}
    assert [is_call(node, "aten.round") for node in graph.graph.nodes].count(True) == 3
    assert not any(map(is_quantise, graph.graph.nodes))


@pytest.mark.parametrize(
    ("text", "layer"),
    [
        ("quantise{activation_bits=0}", nn.Conv2d(4, 4, 1)),
        ("quantise", nn.ConvTranspose2d(4, 4, 2)),
        ("quantise", nn.Conv1d(4, 4, 1)),
    ],
)
def test_left_in_float_on_rounded_weights(text: str, layer: nn.Module) -> None:
    images = [torch.randn(2, 4, 5) if isinstance(layer, nn.Conv1d) else torch.randn(2, 4, 5, 5) for _ in range(4)]
    program, _ = hy.quantise(captured(layer, images[0]), images, text)
    folded = program.copy()
    graph = folded.methods["forward"].graph
    assert multiply_whole_numbers(graph) == 0
    assert fold_weights(graph) == 1
    assert sum(map(is_dequantise, graph.graph.nodes)) == sum(map(is_quantise, graph.graph.nodes))
    assert _differs(program, folded, images[0]) < 1e-6


def test_sums_of_whole_numbers_do_not_fit_into_float16() -> None:
    program = _quantised().to(torch.float16)
    assert multiply_whole_numbers(program.methods["forward"].graph) == 0
