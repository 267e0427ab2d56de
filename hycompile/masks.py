"""Attention masks: whether every query is sure to see a key.

A query whose keys are all masked makes plain softmax NaN and torch's attention zero; a form that avoids the check
(batched matmul, plain softmax, batched matmul) is equal to torch's only where no such query exists.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from hycompile.program import constant
from hycompile.schema import bind, is_call

# exp(MASKED + logit - max) is 0 in float32 and float16 for any sane logit, and unlike minus infinity it passes through
# every vectorised exponential as a number; it is in float16's range.
MASKED = -3e4

# What these make of finite inputs is finite, and they make NaN, not a mask, of infinite ones.
_FINITE = (
    "aten.linear",
    "aten.matmul",
    "aten.bmm",
    "aten.conv1d",
    "aten.conv2d",
    "aten.conv3d",
    "aten.layer_norm",
    "aten.batch_norm",
    "aten.sigmoid",
    "aten.tanh",
)
_KEEP_FINITE = (
    "aten.full",
    "aten.zeros",
    "aten.ones",
    "aten.add.Tensor",
    "aten.sub.Tensor",
    "aten.mul.Tensor",
    "aten.neg",
    "aten.relu",
    "aten.reshape",
    "aten.permute",
    "aten.transpose.int",
    "aten.unsqueeze",
    "aten.squeeze.dim",
    "aten.squeeze.dims",
    "aten.expand",
    "aten.select.int",
    "aten.slice.Tensor",
    "aten.cat",
    "aten.constant_pad_nd",
)


def masked_row(module: GraphModule, attention: Node) -> str | None:
    """Why a query of ``aten.scaled_dot_product_attention`` may have all its keys masked; None if none can.

    Causal masking never does it: torch aligns it to the first key, which every query sees.
    """
    mask = bind(attention)["attn_mask"]
    return None if mask is None else masked_row_of(module, mask)


def masked_row_of(module: GraphModule, mask: Node) -> str | None:
    """The same for a mask alone: ``[..., queries, keys]``, boolean (True is seen) or added to the logits."""
    tensor = constant(module, mask)
    if tensor is not None:
        return masked_row_in(tensor, mask.name)
    if mask.meta["val"].dtype == torch.bool:
        return f"mask {mask.name} is computed at run time, and may be False along a whole row"
    return _infinite_source(module, mask, set())


def masked_row_in(mask: Tensor, name: str = "mask") -> str | None:
    """The same for a known tensor: which row has no key left."""
    seen = mask if mask.dtype == torch.bool else mask.isfinite()
    rows = seen.any(-1) if seen.dim() else seen
    if bool(rows.all()):
        return None
    return f"{name} masks all keys in {int((~rows).sum())} of {rows.numel()} rows"


def additive(mask: Tensor) -> Tensor:
    """A known mask, boolean or added to the logits, as one to add that has no infinities."""
    added = torch.zeros(mask.shape).masked_fill(~mask, MASKED) if mask.dtype == torch.bool else mask
    return added.clamp(min=MASKED)


def _infinite_source(module: GraphModule, node: Node, done: set[Node]) -> str | None:
    """What a run-time mask comes from that may be minus infinity; None if it is finite whenever the inputs are."""
    if node in done or is_call(node, *_FINITE):
        return None
    done.add(node)
    tensor = constant(module, node)
    if tensor is not None:
        return None if bool(tensor.isfinite().all()) else f"{node.name} holds infinities"
    numbers = [value for value in node.args if isinstance(value, float)]
    if not is_call(node, *_KEEP_FINITE) or any(abs(number) == float("inf") for number in numbers):
        return f"mask value {node.name} is known at run time only, and may be minus infinity along a whole row"
    for source in node.all_input_nodes:
        reason = _infinite_source(module, source, done)
        if reason is not None:
            return reason
    return None
