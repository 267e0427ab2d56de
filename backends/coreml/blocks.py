"""Weights in groups for coremltools' converter, which has no translation of them."""

from __future__ import annotations

from typing import Any

from coremltools.converters.mil import Builder
from coremltools.converters.mil.frontend.torch.ops import (
    _get_inputs,  # pyright: ignore[reportPrivateUsage] - how every translation reads its arguments
)
from coremltools.converters.mil.frontend.torch.torch_op_registry import register_torch_op
from coremltools.converters.mil.mil import types

_NAME = "quantized_decomposed{}dequantize_per_channel_group"
_LOW, _HIGH = -8, 7


@register_torch_op(torch_alias=[_NAME.format("::"), _NAME.format(".")])
def dequantise_groups(context: Any, node: Any) -> None:
    """scale (q - zero point) with one of each for a group of a row: data [O, I], scale [O, I / group].

    Numbers that fit into four bits are stored as such.
    """
    given: list[Any] = _get_inputs(context, node)[:3]
    values: list[Any] = [None if variable is None else variable.val for variable in given]
    data, scale, point = values
    build: Any = Builder
    four = types.nptype_from_builtin(types.int4)
    narrow = bool(data.min() >= _LOW and data.max() <= _HIGH)
    kept = data.astype(four) if narrow else data
    offset = {"offset": point.astype(kept.dtype)} if point is not None and point.any() else {}
    context.add(build.constexpr_blockwise_shift_scale(data=kept, scale=scale, name=node.name, **offset))
