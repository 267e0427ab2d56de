"""Which values a runtime must convert, and for which operator."""

from __future__ import annotations

import hycompile as hy
from hycompile.quantisation.converts import converts
from tests.passes.quantise.models import hybrid, samples


def test_each_convert_has_its_reason() -> None:
    """Values between two layers or operators on whole numbers are none, moved or not."""
    quantised, _ = hy.quantise(hybrid(), samples())
    assert sorted(converts(quantised)) == [
        ("dequantise: aten.linear reads floats", 1),
        ("dequantise: aten.scaled_dot_product_attention reads floats", 1),
        ("dequantise: aten.silu reads floats", 1),
        ("quantise: an input of the model", 1),
        ("quantise: aten.mean.dim gives floats", 1),
        ("quantise: aten.silu gives floats", 1),
    ]


def test_without_rounded_outputs_more_converts() -> None:
    """All of the five inputs, on both sides, but for the stem's output, which is the next layer's input."""
    quantised, _ = hy.quantise(hybrid(), samples(), "quantise{outputs=false}")
    assert sum(count for _, count in converts(quantised)) == 8


def test_a_float_model_has_none() -> None:
    assert converts(hybrid()) == []
