"""Translations of convolutions and matrix products, which add in float32 whatever they multiply."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from hycompile.backends.tvm.expressions import cast, dtype_of, ops, values
from hycompile.schema import is_call


def product(importer: Any, a: Any, b: Any) -> Any:
    """a @ b, summed in float32 for float16 operands and rounded once at the end."""
    dtype = dtype_of(a)
    if dtype != "float16":
        return importer.block_builder.emit(ops.matmul(a, b))
    wide = importer.block_builder.emit(ops.matmul(a, b, out_dtype="float32"))
    return importer.block_builder.emit(ops.astype(wide, dtype))


def matmul(node: Node, importer: Any) -> Any:
    """The front end returns float32 from float16 operands."""
    a, b = (importer.env[argument] for argument in node.args[:2])
    return product(importer, a, b)


def linear(node: Node, importer: Any) -> Any:
    """x W' + b, see :func:`product`."""
    v, emit = values(node, importer), importer.block_builder.emit
    whole = _whole_numbers(node, importer)
    if whole is not None:
        result = emit(ops.matmul(v["input"], emit(ops.permute_dims(whole)), out_dtype="float32"))
    else:
        result = product(importer, v["input"], emit(ops.permute_dims(v["weight"])))
    return result if v["bias"] is None else emit(ops.add(result, v["bias"]))


def conv2d(node: Node, importer: Any) -> Any:
    """Summed in float32, rounded once; the front end returns float32 from float16 operands."""
    v, emit = values(node, importer), importer.block_builder.emit
    whole = _whole_numbers(node, importer)
    result = emit(
        ops.nn.conv2d(
            v["input"],
            v["weight"] if whole is None else whole,
            strides=v["stride"],
            padding=v["padding"],
            dilation=v["dilation"],
            groups=v["groups"],
            out_dtype="float32",
        )
    )
    result = emit(cast(result, dtype_of(v["input"])))
    if v["bias"] is None:
        return result
    return emit(ops.add(result, emit(ops.reshape(v["bias"], (1, -1, 1, 1)))))


def _whole_numbers(node: Node, importer: Any) -> Any:
    """The weight of a layer in int8, if it is such behind a cast to float32: the sum casts what it reads."""
    weight: Any = node.args[1]
    if not (is_call(weight, "aten._to_copy") and weight.meta["val"].dtype == torch.float32):
        return None
    (source,) = weight.all_input_nodes
    return importer.env[source] if source.meta["val"].dtype == torch.int8 else None
