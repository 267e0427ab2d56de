"""What a layer multiplies its weight with, as columns of a matrix."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.fx import Node
from torch.nn import functional as F

from hycompile.schema import bind, is_call

_LINEAR = ("aten.linear",)
_CONVOLUTIONS = ("aten.conv1d", "aten.conv2d", "aten.conv1d.padding", "aten.conv2d.padding")
MULTIPLIED = (*_LINEAR, *_CONVOLUTIONS)
"""Operators that are a matrix product ``[groups, out, in] @ [groups, in, positions]``, once their input is unfolded."""


def weight_rows(layer: Node, weight: Tensor) -> Tensor:
    """The weight of one of :data:`MULTIPLIED` as ``[groups, out / groups, in]``, taps of a kernel among the inputs."""
    groups = bind(layer).get("groups", 1)
    return weight.flatten(1).reshape(groups, weight.shape[0] // groups, -1)


def input_columns(layer: Node, value: Tensor, most: int) -> Tensor:
    """The input of one of :data:`MULTIPLIED` as ``[groups, in, positions]``.

    Args:
        layer: the operator.
        value: its input.
        most: positions to keep at most, chosen evenly at random, for each shape the same.
    """
    linear = is_call(layer, *_LINEAR)
    columns = value.reshape(1, -1, value.shape[-1]).mT if linear else _unfolded(layer, value)
    count = columns.shape[-1]
    if count <= most:
        return columns
    return columns[..., torch.randperm(count, generator=torch.Generator().manual_seed(0))[:most]]


def _unfolded(conv: Node, value: Tensor) -> Tensor:
    a = bind(conv)
    kernel = list(a["weight"].meta["val"].shape[2:])
    batched = value if value.dim() == len(kernel) + 2 else value[None]
    stride, dilation, padding = list(a["stride"]), list(a["dilation"]), _padding(a["padding"], kernel, a["dilation"])
    padded = F.pad(batched, [amount for ends in reversed(padding) for amount in ends])
    if len(kernel) == 1:
        padded, kernel, stride, dilation = padded[:, :, None], [1, *kernel], [1, *stride], [1, *dilation]
    taps = F.unfold(padded, tuple(kernel), dilation=tuple(dilation), stride=tuple(stride))
    return taps.unflatten(1, (a["groups"], -1)).permute(1, 2, 0, 3).flatten(2)


def _padding(given: str | Sequence[int], kernel: Sequence[int], dilation: Sequence[int]) -> list[tuple[int, int]]:
    if given == "same":
        total = [step * (size - 1) for step, size in zip(dilation, kernel, strict=True)]
        return [(amount // 2, amount - amount // 2) for amount in total]
    if isinstance(given, str):
        return [(0, 0)] * len(kernel)
    return [(amount, amount) for amount in given]
