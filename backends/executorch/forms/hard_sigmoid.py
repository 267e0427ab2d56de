"""Hard sigmoid from operators XNNPACK's partitioner has entries for."""

from __future__ import annotations

from hycompile.builder import Value, call
from hycompile.pattern import Any, Call
from hycompile.rewrite import rule


@rule(Call("aten.hardsigmoid", self=Any("x")), source="definition of the hard sigmoid (MobileNetV3)")
def expand_hardsigmoid(x: Value) -> Value:
    """hardsigmoid(x) = hardtanh(x + 3, 0, 6) / 6.

    Given: a hard sigmoid of floats.
    Result: a sum, a clamp and a product. Left alone, its bounds are whole numbers that portable kernels convert at
    every run.
    """
    clamped = call("aten.hardtanh", call("aten.add.Tensor", x, 3.0), 0.0, 6.0)
    return call("aten.mul.Tensor", clamped, 1 / 6)
