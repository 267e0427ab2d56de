"""Translations of ATen operators that TVM's torch front end lacks, or makes something else of."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch.fx import Node
from tvm import relax

from hycompile.backends.tvm.expressions import cast, dtype_of, ops, rank_of, values
from hycompile.backends.tvm.norms import batch_norm, group_norm, layer_norm, rms_norm
from hycompile.backends.tvm.products import conv2d, linear, matmul, product
from hycompile.backends.tvm.quantised import dequantise, quantise
from hycompile.errors import Unsupported
from hycompile.schema import bind

Converter = Callable[[Node, Any], Any]


def attention(node: Node, importer: Any) -> Any:
    """softmax(scale q k' + mask) v over any batch axes.

    The front end ignores ``scale``, and takes rank four and float masks only.
    """
    v, emit = values(node, importer), importer.block_builder.emit
    query, key, value = v["query"], v["key"], v["value"]
    if v["is_causal"] or v["enable_gqa"]:
        raise Unsupported(str(node), "attention with is_causal or enable_gqa", "capture with an explicit mask")
    dtype, rank = dtype_of(query), rank_of(query)
    scale = v["scale"] if v["scale"] is not None else 1.0 / math.sqrt(int(query.ty.shape[rank - 1]))
    query = emit(ops.multiply(query, relax.const(scale, dtype)))
    axes = [*range(rank - 2), rank - 1, rank - 2]
    scores = product(importer, query, emit(ops.permute_dims(key, axes)))
    mask = v["attn_mask"]
    if mask is not None and dtype_of(mask) == "bool":
        scores = emit(ops.where(mask, scores, relax.const(-math.inf, dtype)))
    elif mask is not None:
        scores = emit(ops.add(scores, mask))
    weights = emit(cast(emit(ops.nn.softmax(emit(cast(scores, "float32")), -1)), dtype))
    return product(importer, weights, value)


def _extreme(operator: Any) -> Converter:
    def convert(node: Node, importer: Any) -> Any:
        v = values(node, importer)
        axes = list(v["dim"]) or None
        return importer.block_builder.emit(operator(v["self"], axis=axes, keepdims=v["keepdim"]))

    return convert


def divide(node: Node, importer: Any) -> Any:
    """Division with a rounding mode; a Python divisor takes the dividend's type, as in torch."""
    v, emit = values(node, importer), importer.block_builder.emit
    a, b = v["self"], v["other"]
    if not isinstance(b, relax.Expr):
        b = relax.const(b, dtype_of(a))
    if v["rounding_mode"] == "floor":
        return emit(ops.floor_divide(a, b))
    quotient = emit(ops.divide(a, b))
    return emit(ops.trunc(quotient)) if v["rounding_mode"] == "trunc" else quotient


def index(node: Node, importer: Any) -> Any:
    """Gathering along one axis; the front end reads out of bounds where torch counts from the end."""
    v = values(node, importer)
    given = [(axis, value) for axis, value in enumerate(v["indices"]) if value is not None]
    if len(given) != 1 or str(given[0][1].meta["val"].dtype) == "torch.bool":
        return importer._index_tensor(node)  # pyright: ignore[reportPrivateUsage]
    axis, value = given[0]
    return importer.block_builder.emit(ops.take(v["self"], importer.env[value], axis=axis, mode="wrap"))


def index_copy(node: Node, importer: Any) -> Any:
    """Writing whole slices at some positions of one axis, as a cache is written; the front end has no such operator."""
    v, emit = values(node, importer), importer.block_builder.emit
    x, source, rank = v["self"], v["source"], rank_of(v["self"])
    axis = int(v["dim"]) % rank
    shape = [-1 if other == axis else 1 for other in range(rank)]
    where = emit(ops.broadcast_to(emit(ops.reshape(v["index"], shape)), source.ty.shape))
    return emit(ops.scatter_elements(x, where, source, axis=axis))


def clamp(node: Node, importer: Any) -> Any:
    """min(max(x, low), high); the front end makes infinite floats of absent bounds, for integers too."""
    v, emit = values(node, importer), importer.block_builder.emit
    dtype = str(node.meta["val"].dtype).removeprefix("torch.")
    result = emit(cast(v["self"], dtype))
    for operator, bound in ((ops.maximum, v["min"]), (ops.minimum, v["max"])):
        if bound is not None:
            result = emit(operator(result, relax.const(bound, dtype)))
    return result


def masked_fill(node: Node, importer: Any) -> Any:
    """A value where a mask is set; the front end's form of an infinite one cannot be lowered."""
    v, emit = values(node, importer), importer.block_builder.emit
    dtype = str(node.meta["val"].dtype).removeprefix("torch.")
    return emit(ops.where(v["mask"], relax.const(v["value"], dtype), emit(cast(v["self"], dtype))))


def squeeze(node: Node, importer: Any) -> Any:
    """Axes of one element left out; TVM's layout conversion fails on those counted from the end."""
    v = values(node, importer)
    x, axes = v["self"], v["dim"] if isinstance(v["dim"], list | tuple) else [v["dim"]]
    shape, rank = node.all_input_nodes[0].meta["val"].shape, rank_of(x)
    given = sorted({axis % rank for axis in axes if shape[axis] == 1})
    return importer.block_builder.emit(ops.squeeze(x, given)) if given else x


def select(node: Node, importer: Any) -> Any:
    """One slice of an axis; the front end reads out of bounds where torch counts from the end."""
    v, emit = values(node, importer), importer.block_builder.emit
    size = node.all_input_nodes[0].meta["val"].shape[v["dim"]]
    if not isinstance(size, int):
        return importer._select(node)  # pyright: ignore[reportPrivateUsage]
    axis, index = v["dim"] % rank_of(v["self"]), v["index"] % size
    row = emit(ops.strided_slice(v["self"], [axis], [index], [index + 1], [1]))
    return emit(ops.squeeze(row, [axis]))


def stack(node: Node, importer: Any) -> Any:
    """Concatenation along a new axis: TVM's layout conversion fails on a stack behind the last axis."""
    tensors: Any = bind(node)["tensors"]
    given, emit = [importer.env[tensor] for tensor in tensors], importer.block_builder.emit
    axis = int(bind(node)["dim"]) % (rank_of(given[0]) + 1)
    return emit(ops.concat([emit(ops.expand_dims(value, axis)) for value in given], axis))


def subtract_from(node: Node, importer: Any) -> Any:
    """other - alpha x; the front end makes a whole number of the ``1`` in ``1 - x``, and then refuses it."""
    v, emit = values(node, importer), importer.block_builder.emit
    x = v["self"]
    other, alpha = (
        value if isinstance(value, relax.Expr) else relax.const(value, dtype_of(x))
        for value in (v["other"], v["alpha"])
    )
    return emit(ops.subtract(other, x if v["alpha"] == 1 else emit(ops.multiply(x, alpha))))


def hardswish(node: Node, importer: Any) -> Any:
    """x min(max(x + 3, 0), 6) / 6; the front end's clip stops the change to channels last."""
    x, emit = importer.env[node.args[0]], importer.block_builder.emit
    three, zero, six, sixth = (relax.const(value, dtype_of(x)) for value in (3.0, 0.0, 6.0, 1.0 / 6.0))
    gate = emit(ops.minimum(emit(ops.maximum(emit(ops.add(x, three)), zero)), six))
    return emit(ops.multiply(emit(ops.multiply(x, gate)), sixth))


def _in_float32(method: str) -> Converter:
    """The front end's own translation, on float16 widened to float32: its sums overflow at 65504 and lose terms."""

    def convert(node: Node, importer: Any) -> Any:
        source, stock, emit = node.args[0], getattr(importer, method), importer.block_builder.emit
        given = importer.env[source]
        if dtype_of(given) != "float16":
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
    "rms_norm.default": rms_norm,
    "clamp.default": clamp,
    "masked_fill.Scalar": masked_fill,
    "squeeze.dim": squeeze,
    "squeeze.dims": squeeze,
    "select.int": select,
    "rsub.Scalar": subtract_from,
    "rsub.Tensor": subtract_from,
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
    "quantize_per_tensor.default": quantise,
    "dequantize_per_tensor.default": dequantise,
}
