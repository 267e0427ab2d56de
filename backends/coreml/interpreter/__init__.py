"""A reference interpreter for ML Programs in torch: it proves a Core ML package's arithmetic without an Apple device.

It checks the conversion. It says nothing about Apple's 16-bit accumulation, nor about what the Neural Engine takes.
"""

from __future__ import annotations

from importlib import import_module

from hycompile.backends.coreml.interpreter.machine import Declared, Machine
from hycompile.backends.coreml.interpreter.registry import OPERATORS

for _group in (
    "activation",
    "constexpr",
    "conv",
    "creation",
    "elementwise",
    "gather",
    "linear",
    "normalisation",
    "pool",
    "reduction",
    "resize",
    "shape",
    "slicing",
    "state",
):
    import_module(f"{__name__}.{_group}")

__all__ = ["OPERATORS", "Declared", "Machine"]
