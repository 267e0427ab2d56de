"""Weights rounded one after the other, the error of each made good by those still to come."""

from __future__ import annotations

import torch
from torch import Tensor

from hycompile.passes.quantise.grid import Grid

# Added to the diagonal, as a share of its mean: weights of inputs that hardly occur are not moved about.
_DAMPING = 0.01
# Weights whose errors reach those outside their block together, once the block is done: the same sums, read less often.
_BLOCK = 128


def gptq(weight: Tensor, moments: Tensor, grid: Grid, scale: Tensor) -> Tensor:
    """Whole numbers ``q`` that make ``|(scale q - weight) X|^2`` small over the inputs ``X``, which nearest do not.

    Inputs are taken in the order of their energy, the largest first. What rounding a weight leaves behind is taken back
    by the weights of the inputs after it, as far as these resemble its own: ``w -= e H^-1[i] / H^-1[i, i]``.

    Source: Frantar et al. 2023, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers",
    with the order that its code calls ``act-order``.

    Args:
        weight: ``[groups, out, in]``, float64.
        moments: ``H = X X^T`` of each group, ``[groups, in, in]``, float64.
        grid: symmetric.
        scale: as ``weight``.
    """
    order = moments.diagonal(dim1=1, dim2=2).argsort(dim=1, descending=True, stable=True)
    steps, left = (rows.take_along_dim(order[:, None], 2) for rows in (scale, weight))
    factor = _inverse_root(moments.take_along_dim(order[:, :, None], 1).take_along_dim(order[:, None], 2))
    whole, errors = torch.empty_like(left), torch.empty_like(left)
    for start in range(0, left.shape[2], _BLOCK):
        end = min(start + _BLOCK, left.shape[2])
        for index in range(start, end):
            step, row = steps[..., index], factor[:, index, index:end]
            whole[..., index] = (left[..., index] / step).round().clamp(grid.low, grid.high)
            errors[..., index] = (left[..., index] - whole[..., index] * step) / row[:, :1]
            left[..., index:end] -= errors[..., index, None] * row[:, None]
        left[..., end:] -= errors[..., start:end] @ factor[:, start:end, end:]
    return whole.take_along_dim(order.argsort(dim=1)[:, None], 2)


def compensated(weight: Tensor, own: Tensor, mixed: Tensor, missing: Tensor) -> Tensor:
    """The weights ``V`` with the smallest ``|W X + D - V R|^2``: what was lost so far is made good before rounding.

    Source: least squares; the aim is that of Li et al. 2025, "GPTAQ: Efficient Finetuning-Free Quantization for
    Asymmetric Calibration", who take such steps between those of GPTQ.

    Args:
        weight: ``W``, ``[groups, out, in]``, float64.
        own: ``R R^T`` of the inputs in the quantised model, ``[groups, in, in]``, float64.
        mixed: ``X R^T``, with the inputs ``X`` in the float model.
        missing: ``D R^T``, with what the bias has lost, ``[groups, out, in]`` or zero.
    """
    return weight + torch.linalg.solve(_damped(own), (weight @ (mixed - own) + missing).mT).mT


def _damped(moments: Tensor) -> Tensor:
    mean = moments.diagonal(dim1=1, dim2=2).mean(1)
    added = torch.where(mean > 0, _DAMPING * mean, 1.0)
    return moments + added[:, None, None] * torch.eye(moments.shape[1], dtype=moments.dtype)


def _inverse_root(moments: Tensor) -> Tensor:
    """Upper triangular ``U`` with ``U^T U = H^-1``: row i is that of ``H^-1`` with inputs before i fixed, scaled."""
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(_damped(moments)))
    return torch.linalg.cholesky(inverse, upper=True)
