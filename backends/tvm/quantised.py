"""Translations of quantise and dequantise nodes, which TVM's torch front end lacks."""

from __future__ import annotations

from typing import Any

from torch.fx import Node
from tvm import relax

from hycompile.backends.tvm.expressions import cast, ops, values


def quantise(node: Node, importer: Any) -> Any:
    """clamp(round(x / s) + z), with halves to even and 1 / s rounded to float32, as torch has it.

    ``relax.quantize`` rounds halves away from zero, and its clip stops the change to channels last.
    """
    v, emit = values(node, importer), importer.block_builder.emit
    inverse, point, low, high = (
        relax.const(value, "float32")
        for value in (1.0 / v["scale"], float(v["zero_point"]), float(v["quant_min"]), float(v["quant_max"]))
    )
    whole = emit(ops.round(emit(ops.multiply(emit(cast(v["input"], "float32")), inverse))))
    bounded = emit(ops.minimum(emit(ops.maximum(emit(ops.add(whole, point)), low)), high))
    return emit(ops.astype(bounded, "int8"))


def dequantise(node: Node, importer: Any) -> Any:
    """s (q - z)."""
    v, emit = values(node, importer), importer.block_builder.emit
    point, scale = (relax.const(float(value), "float32") for value in (v["zero_point"], v["scale"]))
    result = emit(ops.multiply(emit(ops.subtract(emit(ops.astype(v["input"], "float32")), point)), scale))
    return emit(cast(result, str(node.meta["val"].dtype).removeprefix("torch.")))
