"""Translations of ATen operators that TVM's torch front end lacks, or makes something else of."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from torch.fx import Node
from tvm import relax

from hycompile.errors import Unsupported
from hycompile.schema import bind

# TVM annotates shapes as one-element tuples.
ops: Any = relax.op
Converter = Callable[[Node, Any], Any]


def _values(node: Node, importer: Any) -> dict[str, Any]:
    """Arguments by schema name, with Relax expressions in place of nodes."""
    return {name: importer.env[value] if isinstance(value, Node) else value for name, value in bind(node).items()}


def _dtype(value: Any) -> str:
    return str(value.ty.dtype)


def _rank(value: Any) -> int:
    return int(value.ty.ndim)


def _cast(value: Any, dtype: str) -> Any:
    return value if _dtype(value) == dtype else ops.astype(value, dtype)


def _product(importer: Any, a: Any, b: Any) -> Any:
    """a @ b, summed in float32 for float16 operands and rounded once at the end."""
    dtype = _dtype(a)
    if dtype != "float16":
        return importer.block_builder.emit(ops.matmul(a, b))
    wide = importer.block_builder.emit(ops.matmul(a, b, out_dtype="float32"))
    return importer.block_builder.emit(ops.astype(wide, dtype))


def matmul(node: Node, importer: Any) -> Any:
    """The front end returns float32 from float16 operands."""
    a, b = (importer.env[argument] for argument in node.args[:2])
    return _product(importer, a, b)


def linear(node: Node, importer: Any) -> Any:
    """x W' + b, see :func:`matmul`."""
    v = _values(node, importer)
    result = _product(importer, v["input"], importer.block_builder.emit(ops.permute_dims(v["weight"])))
    return result if v["bias"] is None else importer.block_builder.emit(ops.add(result, v["bias"]))


def conv2d(node: Node, importer: Any) -> Any:
    """Summed in float32, rounded once; the front end returns float32 from float16 operands."""
    v = _values(node, importer)
    result = importer.block_builder.emit(
        ops.nn.conv2d(
            v["input"],
            v["weight"],
            strides=v["stride"],
            padding=v["padding"],
            dilation=v["dilation"],
            groups=v["groups"],
            out_dtype="float32",
        )
    )
    result = importer.block_builder.emit(_cast(result, _dtype(v["input"])))
    if v["bias"] is None:
        return result
    bias = ops.reshape(v["bias"], (1, -1, 1, 1))
    return importer.block_builder.emit(ops.add(result, bias))


def batch_norm(node: Node, importer: Any) -> Any:
    """x s + (b - mean s),  s = g / sqrt(var + eps).

    The front end takes the seventh argument, momentum, for eps, and normalises with the statistics of the batch.
    """
    v = _values(node, importer)
    dtype, emit = _dtype(v["input"]), importer.block_builder.emit
    shape = (1, -1, *(1,) * (_rank(v["input"]) - 2))
    scale = emit(ops.rsqrt(emit(ops.add(v["running_var"], relax.const(v["eps"], dtype)))))
    if v["weight"] is not None:
        scale = emit(ops.multiply(scale, v["weight"]))
    shift = emit(ops.negative(emit(ops.multiply(v["running_mean"], scale))))
    if v["bias"] is not None:
        shift = emit(ops.add(shift, v["bias"]))
    scaled = emit(ops.multiply(v["input"], emit(ops.reshape(scale, shape))))
    return emit(ops.add(scaled, emit(ops.reshape(shift, shape))))


def attention(node: Node, importer: Any) -> Any:
    """softmax(scale q k' + mask) v over any batch axes.

    The front end ignores ``scale``, and takes rank four and float masks only.
    """
    v, emit = _values(node, importer), importer.block_builder.emit
    query, key, value = v["query"], v["key"], v["value"]
    if v["is_causal"] or v["enable_gqa"]:
        raise Unsupported(str(node), "attention with is_causal or enable_gqa", "capture with an explicit mask")
    dtype, rank = _dtype(query), _rank(query)
    scale = v["scale"] if v["scale"] is not None else 1.0 / math.sqrt(int(query.ty.shape[rank - 1]))
    query = emit(ops.multiply(query, relax.const(scale, dtype)))
    axes = [*range(rank - 2), rank - 1, rank - 2]
    scores = _product(importer, query, emit(ops.permute_dims(key, axes)))
    mask = v["attn_mask"]
    if mask is not None and _dtype(mask) == "bool":
        scores = emit(ops.where(mask, scores, relax.const(-math.inf, dtype)))
    elif mask is not None:
        scores = emit(ops.add(scores, mask))
    weights = emit(_cast(emit(ops.nn.softmax(emit(_cast(scores, "float32")), -1)), dtype))
    return _product(importer, weights, value)


def _extreme(operator: Any) -> Converter:
    def convert(node: Node, importer: Any) -> Any:
        v = _values(node, importer)
        axes = list(v["dim"]) or None
        return importer.block_builder.emit(operator(v["self"], axis=axes, keepdims=v["keepdim"]))

    return convert


def divide(node: Node, importer: Any) -> Any:
    """Division with a rounding mode; a Python divisor takes the dividend's type, as in torch."""
    v, emit = _values(node, importer), importer.block_builder.emit
    a, b = v["self"], v["other"]
    if not isinstance(b, relax.Expr):
        b = relax.const(b, _dtype(a))
    if v["rounding_mode"] == "floor":
        return emit(ops.floor_divide(a, b))
    quotient = emit(ops.divide(a, b))
    return emit(ops.trunc(quotient)) if v["rounding_mode"] == "trunc" else quotient


def group_norm(node: Node, importer: Any) -> Any:
    """(x - mean) / sqrt(var + eps) w + b over one group: the front end's one-pass variance cancels, and is one loop.

    With one group the means are over all axes but the first, which any layout can take; several groups need a reshape.
    """
    v, emit = _values(node, importer), importer.block_builder.emit
    dtype, groups, rank = _dtype(v["input"]), int(v["num_groups"]), _rank(v["input"])
    x = emit(_cast(v["input"], "float32"))
    shape = [x.ty.shape[axis] for axis in range(rank)]
    grouped = x if groups == 1 else emit(ops.reshape(x, (shape[0], groups, -1)))
    axes = list(range(1, rank)) if groups == 1 else [2]
    centred = emit(ops.subtract(grouped, emit(ops.mean(grouped, axes, True))))
    variance = emit(ops.mean(emit(ops.multiply(centred, centred)), axes, True))
    scale = emit(ops.rsqrt(emit(ops.add(variance, relax.const(v["eps"], "float32")))))
    result = emit(_cast(emit(ops.multiply(centred, scale)), dtype))
    result = result if groups == 1 else emit(ops.reshape(result, shape))
    affine = (1, -1, *(1,) * (rank - 2))
    if v["weight"] is not None:
        result = emit(ops.multiply(result, emit(ops.reshape(v["weight"], affine))))
    return result if v["bias"] is None else emit(ops.add(result, emit(ops.reshape(v["bias"], affine))))


def layer_norm(node: Node, importer: Any) -> Any:
    """(x - mean) / sqrt(var + eps) w + b over the last axes, in float32: sums of float16 squares overflow."""
    v, emit = _values(node, importer), importer.block_builder.emit
    dtype, shape = _dtype(v["input"]), [int(size) for size in v["normalized_shape"]]
    weight = v["weight"] if v["weight"] is not None else relax.const(np.ones(shape, "float32"), "float32")
    bias = v["bias"] if v["bias"] is not None else relax.const(np.zeros(shape, "float32"), "float32")
    x, weight, bias = (emit(_cast(value, "float32")) for value in (v["input"], weight, bias))
    axes = list(range(-len(shape), 0))
    return emit(_cast(emit(ops.nn.layer_norm(x, weight, bias, axes=axes, epsilon=v["eps"])), dtype))


def index(node: Node, importer: Any) -> Any:
    """Gathering along one axis; the front end reads out of bounds where torch counts from the end."""
    v = _values(node, importer)
    given = [(axis, value) for axis, value in enumerate(v["indices"]) if value is not None]
    if len(given) != 1 or str(given[0][1].meta["val"].dtype) == "torch.bool":
        return importer._index_tensor(node)  # pyright: ignore[reportPrivateUsage]
    axis, value = given[0]
    return importer.block_builder.emit(ops.take(v["self"], importer.env[value], axis=axis, mode="wrap"))


def index_copy(node: Node, importer: Any) -> Any:
    """Writing whole slices at some positions of one axis, as a cache is written; the front end has no such operator."""
    v, emit = _values(node, importer), importer.block_builder.emit
    x, source, rank = v["self"], v["source"], _rank(v["self"])
    axis = int(v["dim"]) % rank
    shape = [-1 if other == axis else 1 for other in range(rank)]
    where = emit(ops.broadcast_to(emit(ops.reshape(v["index"], shape)), source.ty.shape))
    return emit(ops.scatter_elements(x, where, source, axis=axis))


def stack(node: Node, importer: Any) -> Any:
    """Concatenation along a new axis: TVM's layout conversion fails on a stack behind the last axis."""
    tensors: Any = bind(node)["tensors"]
    values, emit = [importer.env[tensor] for tensor in tensors], importer.block_builder.emit
    axis = int(bind(node)["dim"]) % (_rank(values[0]) + 1)
    return emit(ops.concat([emit(ops.expand_dims(value, axis)) for value in values], axis))


def hardswish(node: Node, importer: Any) -> Any:
    """x min(max(x + 3, 0), 6) / 6; the front end's clip stops the change to channels last."""
    x, emit = importer.env[node.args[0]], importer.block_builder.emit
    three, zero, six, sixth = (relax.const(value, _dtype(x)) for value in (3.0, 0.0, 6.0, 1.0 / 6.0))
    gate = emit(ops.minimum(emit(ops.maximum(emit(ops.add(x, three)), zero)), six))
    return emit(ops.multiply(emit(ops.multiply(x, gate)), sixth))


def _in_float32(method: str) -> Converter:
    """The front end's own translation, on float16 widened to float32: its sums overflow at 65504 and lose terms."""

    def convert(node: Node, importer: Any) -> Any:
        source, stock, emit = node.args[0], getattr(importer, method), importer.block_builder.emit
        given = importer.env[source]
        if _dtype(given) != "float16":
            return stock(node)
        importer.env[source] = emit(ops.astype(given, "float32"))
        result = stock(node)
        importer.env[source] = given
        return emit(ops.astype(result, "float16"))

    return convert


CONVERTERS: dict[str, Converter] = {
    "matmul.default": matmul,
    "mm.default": matmul,
    "bmm.default": matmul,
    "linear.default": linear,
    "conv2d.default": conv2d,
    "batch_norm.default": batch_norm,
    "scaled_dot_product_attention.default": attention,
    "amax.default": _extreme(ops.max),
    "amin.default": _extreme(ops.min),
    "group_norm.default": group_norm,
    "layer_norm.default": layer_norm,
    "hardswish.default": hardswish,
    "stack.default": stack,
    "mean.default": _in_float32("_mean"),
    "mean.dim": _in_float32("_mean"),
    "sum.default": _in_float32("_sum"),
    "sum.dim_IntList": _in_float32("_sum"),
    "softmax.int": _in_float32("_softmax"),
    "adaptive_avg_pool2d.default": _in_float32("_adaptive_avg_pool2d"),
    "linalg_vector_norm.default": _in_float32("_norm"),
    "index.Tensor": index,
    "index_copy.default": index_copy,
    "div.Tensor_mode": divide,
    "div.Scalar_mode": divide,
}
