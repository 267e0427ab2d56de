"""Matrix products and attention."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from hycompile.backends.coreml.interpreter.registry import operator


@operator("linear")
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b; x [..., I], weight [O, I], bias [O]."""
    return F.linear(x, weight, bias)


@operator("matmul")
def matmul(x: Tensor, y: Tensor, transpose_x: Tensor, transpose_y: Tensor) -> Tensor:
    """x y with broadcast batch dimensions, either side transposed in its last two first."""
    left = x.mT if bool(transpose_x) and x.dim() > 1 else x
    right = y.mT if bool(transpose_y) and y.dim() > 1 else y
    return torch.matmul(left, right)


@operator("einsum")
def einsum(values: Sequence[Tensor], equation: str) -> Tensor:
    """The Einstein sum ``equation`` of two tensors."""
    return torch.einsum(equation, *values)


@operator("scaled_dot_product_attention")
def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    """softmax(Q K^T / sqrt(E) + mask) V; a boolean mask keeps the positions where it is true."""
    scores = query @ key.mT / math.sqrt(query.shape[-1])
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -math.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
    return torch.softmax(scores, -1) @ value
