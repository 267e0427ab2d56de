"""What each layer does to the outputs alone, and which one is to blame."""

from __future__ import annotations

import pytest
import torch

import hycompile as hy
from hycompile.errors import ParityError
from hycompile.quantisation.measure import compare_layers
from hycompile.quantisation.plan import Sensitivity
from tests.passes.quantise.models import Hybrid, hybrid, samples
from tests.support import captured

LAYERS = ["conv2d", "conv2d_1", "conv2d_2", "linear", "linear_1"]


def _measured(text: str) -> Sensitivity:
    quantised, _ = hy.quantise(hybrid(), samples(), text)
    assert quantised.plan is not None
    assert quantised.plan.sensitivity is not None
    return quantised.plan.sensitivity


def _ratio(text: str, count: int) -> float:
    quantised, _ = hy.quantise(hybrid(), samples()[:count], text)
    return compare_layers(hybrid(), quantised, quantised.calibration).output_sqnr


def test_each_layer_alone_and_all_but_it_are_what_keeping_the_others_gives() -> None:
    found = _measured("quantise{bits=4,sensitivity=4,min_sqnr=-20.0}")
    assert (found.calls, [layer.node for layer in found.layers]) == (4, LAYERS)
    assert found.together == pytest.approx(_ratio("quantise{bits=4,min_sqnr=-20.0}", 4))
    for layer in (found.layers[1], found.layers[3]):
        others = ",".join(name for name in LAYERS if name != layer.node)
        assert layer.alone == pytest.approx(_ratio(f'quantise{{bits=4,min_sqnr=-20.0,keep="{others}"}}', 4))
        assert layer.without == pytest.approx(_ratio(f"quantise{{bits=4,min_sqnr=-20.0,keep={layer.node}}}", 4))
    assert all(layer.alone > found.together for layer in found.layers)


def test_only_so_many_calls_are_run() -> None:
    assert _measured("quantise{sensitivity=2}").calls == 2


def test_not_measured_unless_asked_for() -> None:
    quantised, _ = hy.quantise(hybrid(), samples())
    assert quantised.plan is not None
    assert quantised.plan.sensitivity is None


def test_the_layer_to_blame_is_named() -> None:
    """A channel that nobody reads, with weights far larger than all others of its tensor: these become zero."""
    torch.manual_seed(0)
    model = Hybrid().eval()
    with torch.no_grad():
        model.point.weight[0] *= 100
        model.qkv.weight[:, 0] = 0.0
    program = captured(model, samples()[0])
    told = r"budget 30.0 dB; layers to blame: conv2d_2 \(-?\d+\.\d dB if it alone is rounded\), "
    with pytest.raises(ParityError, match=told):
        hy.quantise(program, samples(), "quantise{bits=4,weights=tensor,min_sqnr=30.0}")
