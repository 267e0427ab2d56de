"""Reductions over axes, and the ordering operators."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hycompile.backends.coreml.interpreter.registry import Result, ints, operator


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted((axis % x.dim() for axis in axes), reverse=True):
        x = torch.prod(x, axis, keepdim=keep)
    return x


_REDUCTIONS: dict[str, Callable[[Tensor, list[int], bool], Tensor]] = {
    "reduce_max": lambda x, axes, keep: torch.amax(x, axes, keep),
    "reduce_min": lambda x, axes, keep: torch.amin(x, axes, keep),
    "reduce_sum": lambda x, axes, keep: torch.sum(x, axes, keep),
    "reduce_mean": lambda x, axes, keep: torch.mean(x.float(), axes, keep),
    "reduce_prod": _product,
    "reduce_l1_norm": lambda x, axes, keep: torch.sum(x.abs(), axes, keep),
    "reduce_l2_norm": lambda x, axes, keep: torch.sqrt(torch.sum(x.square(), axes, keep)),
    "reduce_sum_square": lambda x, axes, keep: torch.sum(x.square(), axes, keep),
    "reduce_log_sum": lambda x, axes, keep: torch.log(torch.sum(x, axes, keep)),
    "reduce_log_sum_exp": lambda x, axes, keep: torch.logsumexp(x, axes, keep),
}


def _register(name: str, function: Callable[[Tensor, list[int], bool], Tensor]) -> None:
    @operator(name)
    def _(x: Tensor, keep_dims: Tensor, axes: Tensor | None = None) -> Tensor:
        over = list(range(x.dim())) if axes is None else ints(axes)
        return function(x, over, bool(keep_dims)).to(x.dtype)


for _name, _function in _REDUCTIONS.items():
    _register(_name, _function)


@operator("reduce_argmax")
def reduce_argmax(x: Tensor, axis: Tensor, keep_dims: Tensor, output_dtype: str = "int32") -> Tensor:
    """Index of the largest element along ``axis``; the first of equals."""
    return torch.argmax(x, int(axis), bool(keep_dims))


@operator("reduce_argmin")
def reduce_argmin(x: Tensor, axis: Tensor, keep_dims: Tensor, output_dtype: str = "int32") -> Tensor:
    """Index of the smallest element along ``axis``; the first of equals."""
    return torch.argmin(x, int(axis), bool(keep_dims))


@operator("argsort")
def argsort(x: Tensor, axis: Tensor, ascending: Tensor) -> Tensor:
    """Indices that sort along ``axis``, equals in their order."""
    return torch.argsort(x, dim=int(axis), descending=not bool(ascending), stable=True)


@operator("topk")
def topk(
    x: Tensor,
    k: Tensor,
    axis: Tensor,
    ascending: Tensor,
    sort: Tensor | None = None,
    return_indices: Tensor | None = None,
    output_indices_dtype: str = "int32",
) -> Result:
    """The ``k`` largest (``ascending``: smallest) values along ``axis``, sorted, and their indices."""
    order = torch.argsort(x, dim=int(axis), descending=not bool(ascending), stable=True)
    indices = order.narrow(int(axis), 0, int(k))
    values = torch.gather(x, int(axis), indices)
    return (values, indices) if return_indices is None or bool(return_indices) else values


@operator("cumsum")
def cumsum(x: Tensor, axis: Tensor, exclusive: Tensor, reverse: Tensor) -> Tensor:
    """Running sum along ``axis``, from the end if ``reverse``, without the element itself if ``exclusive``."""
    dim = int(axis)
    data = x.flip(dim) if bool(reverse) else x
    total = torch.cumsum(data, dim)
    total = total - data if bool(exclusive) else total
    return (total.flip(dim) if bool(reverse) else total).to(x.dtype)
