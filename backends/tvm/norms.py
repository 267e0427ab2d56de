"""Translations of norms, which the front end gets wrong: their moments are taken in float32 and in two passes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.fx import Node
from tvm import relax

from hycompile.backends.tvm.expressions import cast, dtype_of, ops, rank_of, values


def batch_norm(node: Node, importer: Any) -> Any:
    """x s + (b - mean s),  s = g / sqrt(var + eps).

    The front end takes the seventh argument, momentum, for eps, and normalises with the statistics of the batch.
    """
    v = values(node, importer)
    dtype, emit = dtype_of(v["input"]), importer.block_builder.emit
    shape = (1, -1, *(1,) * (rank_of(v["input"]) - 2))
    scale = emit(ops.rsqrt(emit(ops.add(v["running_var"], relax.const(v["eps"], dtype)))))
    if v["weight"] is not None:
        scale = emit(ops.multiply(scale, v["weight"]))
    shift = emit(ops.negative(emit(ops.multiply(v["running_mean"], scale))))
    if v["bias"] is not None:
        shift = emit(ops.add(shift, v["bias"]))
    scaled = emit(ops.multiply(v["input"], emit(ops.reshape(scale, shape))))
    return emit(ops.add(scaled, emit(ops.reshape(shift, shape))))


def rms_norm(node: Node, importer: Any) -> Any:
    """x / sqrt(mean(x^2) + eps) w over the last axes, in float32; the front end has none."""
    v, emit = values(node, importer), importer.block_builder.emit
    dtype = dtype_of(v["input"])
    x = emit(cast(v["input"], "float32"))
    eps = v["eps"] if v["eps"] is not None else torch.finfo(node.meta["val"].dtype).eps
    axes = list(range(rank_of(x) - len(v["normalized_shape"]), rank_of(x)))
    square = emit(ops.mean(emit(ops.multiply(x, x)), axes, True))
    scale = emit(ops.rsqrt(emit(ops.add(square, relax.const(eps, "float32")))))
    result = emit(cast(emit(ops.multiply(x, scale)), dtype))
    return result if v["weight"] is None else emit(ops.multiply(result, v["weight"]))


def group_norm(node: Node, importer: Any) -> Any:
    """(x - mean) / sqrt(var + eps) w + b over one group: the front end's one-pass variance cancels, and is one loop.

    With one group the means are over all axes but the first, which any layout can take; several groups need a reshape.
    """
    v, emit = values(node, importer), importer.block_builder.emit
    dtype, groups, rank = dtype_of(v["input"]), int(v["num_groups"]), rank_of(v["input"])
    x = emit(cast(v["input"], "float32"))
    shape = [x.ty.shape[axis] for axis in range(rank)]
    grouped = x if groups == 1 else emit(ops.reshape(x, (shape[0], groups, -1)))
    axes = list(range(1, rank)) if groups == 1 else [2]
    centred = emit(ops.subtract(grouped, emit(ops.mean(grouped, axes, True))))
    variance = emit(ops.mean(emit(ops.multiply(centred, centred)), axes, True))
    scale = emit(ops.rsqrt(emit(ops.add(variance, relax.const(v["eps"], "float32")))))
    result = emit(cast(emit(ops.multiply(centred, scale)), dtype))
    result = result if groups == 1 else emit(ops.reshape(result, shape))
    affine = (1, -1, *(1,) * (rank - 2))
    if v["weight"] is not None:
        result = emit(ops.multiply(result, emit(ops.reshape(v["weight"], affine))))
    return result if v["bias"] is None else emit(ops.add(result, emit(ops.reshape(v["bias"], affine))))


def layer_norm(node: Node, importer: Any) -> Any:
    """(x - mean) / sqrt(var + eps) w + b over the last axes, in float32: sums of float16 squares overflow."""
    v, emit = values(node, importer), importer.block_builder.emit
    dtype, shape = dtype_of(v["input"]), [int(size) for size in v["normalized_shape"]]
    weight = v["weight"] if v["weight"] is not None else relax.const(np.ones(shape, "float32"), "float32")
    bias = v["bias"] if v["bias"] is not None else relax.const(np.zeros(shape, "float32"), "float32")
    x, weight, bias = (emit(cast(value, "float32")) for value in (v["input"], weight, bias))
    axes = list(range(-len(shape), 0))
    return emit(cast(emit(ops.nn.layer_norm(x, weight, bias, axes=axes, epsilon=v["eps"])), dtype))
