"""The quicker form of a simulation computes the same numbers, and does take the nodes out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks.accuracy.quick import quick
from hycompile.capture import capture
from hycompile.parity import execute
from hycompile.quantisation.nodes import is_dequantise, is_quantise
from hycompile.quantisation.quantise import quantise


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ("bits=8", 0),
        ("bits=4,activation_bits=6,weights=tensor,activations=symmetric", 0),
        ("bits=3,activation_bits=3,observer=mse", 0),
        # Ranges found at run time are not known here.
        ("bits=4,group=16,activations=dynamic", 1),
    ],
)
def test_the_same_numbers(options: str, left: int) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.Flatten(), nn.Linear(64, 32))
    inputs = [torch.randn(2, 3, 6, 6) for _ in range(3)]
    program, _ = quantise(capture(network.eval(), (inputs[0],)), inputs, f"quantise{{{options},min_sqnr=-300.0}}")
    slow = program.methods["forward"]
    before = slow.graph.code
    fast = quick(slow)
    for given in [*inputs, 3 * torch.randn(2, 3, 6, 6), torch.zeros(2, 3, 6, 6)]:
        assert torch.equal(execute(fast, (given,)).outputs[0], execute(slow, (given,)).outputs[0])
    nodes = [node for node in fast.graph.graph.nodes if is_quantise(node) or is_dequantise(node)]
    assert (len(nodes) > 0) == bool(left)
    assert slow.graph.code == before
