"""Convolutions, average poolings and the identity as one thing: a linear map with weights, bias and geometry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.experimental.symbolic_shapes import statically_known_true

from hycompile.passes.affine import CONVOLUTIONS
from hycompile.passes.merge_convolutions.geometry import Geometry
from hycompile.program import constant
from hycompile.rewrite import require
from hycompile.schema import bind, is_call

POOLS = ("aten.avg_pool1d", "aten.avg_pool2d", "aten.avg_pool3d")


@dataclass(frozen=True)
class Branch:
    """``value = W source + b``.

    Args:
        node: whose value it is.
        source: what it reads.
        geometry: where it reads.
        groups: its channel groups.
        weight: ``[out, in / groups, *taps]``, in the precision of the graph.
        bias: ``[out]`` or None.
        macs: multiplications or, of a pooling, additions for each output position.
    """

    node: Node
    source: Node
    geometry: Geometry
    groups: int
    weight: Tensor
    bias: Tensor | None
    macs: int

    @property
    def axes(self) -> int:
        return len(self.geometry.stride)

    @property
    def inputs(self) -> int:
        """Channels it reads."""
        return self.weight.shape[1] * self.groups


def is_linear(node: object) -> bool:
    """Whether it is a convolution or an average pooling."""
    return is_call(node, *CONVOLUTIONS, *POOLS)


def source_of(node: Node) -> Node:
    """What a convolution or pooling reads."""
    return next(iter(bind(node).values()))


def branch_of(module: GraphModule, node: Node) -> Branch:
    """A convolution or pooling as a branch; refused if its weights or its windows are not the same everywhere."""
    return _pooling(node) if is_call(node, *POOLS) else _convolution(module, node)


def identity(node: Node, axes: int) -> Branch:
    """A value as a branch of itself: a depthwise 1x1 convolution with weight 1, which costs nothing."""
    value = node.meta["val"]
    channels = int(value.shape[-axes - 1])
    weight = torch.ones(channels, 1, *[1] * axes, dtype=value.dtype)
    return Branch(node, node, Geometry.pointwise(axes), channels, weight, None, 0)


def keeps_size(geometry: Geometry, source: Node, result: Node) -> bool:
    """Whether a convolution of ``source`` with this geometry has the spatial size of ``result``."""
    axes = len(geometry.stride)
    found, wanted = geometry.output_size(source.meta["val"].shape[-axes:]), result.meta["val"].shape[-axes:]
    return all(statically_known_true(one == other) for one, other in zip(found, wanted, strict=True))


def _convolution(module: GraphModule, node: Node) -> Branch:
    a = bind(node)
    weight, bias = constant(module, a["weight"]), constant(module, a["bias"])
    require(weight is not None, "the weight of {} is not a constant", node.name)
    require(bias is not None or a["bias"] is None, "the bias of {} is not a constant", node.name)
    taps = tuple(weight.shape[2:])  # type: ignore[union-attr]
    stride, step = _per_axis(a["stride"], len(taps)), _per_axis(a["dilation"], len(taps))
    first = tuple(-amount for amount in _padding(a["padding"], taps, step))
    geometry = Geometry(stride, first, step, taps)
    return Branch(node, a["input"], geometry, a["groups"], weight, bias, weight.numel())  # type: ignore[arg-type,union-attr]


def _pooling(node: Node) -> Branch:
    a = bind(node)
    source = source_of(node)
    axes = POOLS.index(f"aten.{node.target.__name__.partition('.')[0]}") + 1  # type: ignore[union-attr]
    taps = _per_axis(a["kernel_size"], axes)
    stride = _per_axis(a["stride"], axes) if a["stride"] else taps
    padding = _per_axis(a["padding"], axes)
    require(
        a["count_include_pad"] or not any(padding),
        "{} averages over fewer values at the border; a convolution and a multiplication by a border map cost more",
        node.name,
    )
    geometry = Geometry(stride, tuple(-amount for amount in padding), (1,) * axes, taps)
    require(
        not a["ceil_mode"] or keeps_size(geometry, source, node),
        "the last windows of {} reach beyond its input, and count fewer values",
        node.name,
    )
    channels, area = int(source.meta["val"].shape[-axes - 1]), torch.Size(taps).numel()
    weight = torch.full((channels, 1, *taps), 1 / (a.get("divisor_override") or area), dtype=torch.float64)
    return Branch(node, source, geometry, channels, weight, None, channels * area)


def _per_axis(value: Any, axes: int) -> tuple[int, ...]:
    listed = list(value) if isinstance(value, Sequence) else [value]
    return tuple(listed * axes if len(listed) == 1 else listed)


def _padding(padding: Any, taps: tuple[int, ...], step: tuple[int, ...]) -> tuple[int, ...]:
    """Zeros before the input; ``same`` puts the odd one behind it."""
    if padding == "valid":
        return (0,) * len(taps)
    if padding == "same":
        return tuple(dilation * (size - 1) // 2 for size, dilation in zip(taps, step, strict=True))
    return _per_axis(padding, len(taps))
