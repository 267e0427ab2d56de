"""RMS norm that is right for small values and stays in the range of sixteen bits."""

from __future__ import annotations

import math

import torch
from torch.fx import GraphModule

from hycompile.backends.coreml.types import replace
from hycompile.builder import Builder, Value
from hycompile.schema import bind, is_call


def expand_rms_norm(module: GraphModule) -> int:
    """x / sqrt(mean(x^2) + e) = s / sqrt(mean(s^2) + (sqrt(e) / m)^2) with s = x / m and m = max(|x|, sqrt(e)).

    Squares of float16 leave its range, so coremltools 9.0 also divides by the largest value of a row; it adds ``e`` to
    the mean of the scaled squares as it is, which multiplies it by that value's square. Rows of small values then come
    out far too large, and rows of zeros as NaN. With ``m`` no smaller than sqrt(e), every term here is at most 1.
    """
    found = [node for node in module.graph.nodes if is_call(node, "aten.rms_norm")]
    for node in found:
        build, bound = Builder(module, node, "rms_norm"), bind(node)
        x, axes = Value(bound["input"]), list(range(-len(bound["normalized_shape"]), 0))
        eps = torch.finfo(x.dtype).eps if bound["eps"] is None else bound["eps"]
        root = math.sqrt(eps)
        largest = build.call("aten.amax", build.call("aten.abs", x), axes, True)
        size = build.call("aten.clamp", largest, root)
        scaled = build.call("aten.div.Tensor", x, size)
        mean = build.call("aten.mean.dim", build.call("aten.mul.Tensor", scaled, scaled), axes, True)
        share = build.call("aten.div.Tensor", torch.full((1,), root, dtype=torch.float64), size)
        total = build.call("aten.add.Tensor", mean, build.call("aten.mul.Tensor", share, share))
        result = build.call("aten.mul.Tensor", scaled, build.call("aten.rsqrt", total))
        if bound["weight"] is not None:
            result = build.call("aten.mul.Tensor", result, Value(bound["weight"]))
        replace(module, node, result)
    return len(found)
