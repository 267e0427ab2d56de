"""Computations on tensors of six, seven and ten dimensions, as hierarchical vision transformers write them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Form = Callable[[Tensor], Any]


def _windows(x: Tensor) -> Tensor:
    """Window partition of a batch: nothing merges, so the permute takes two steps."""
    return x.reshape(4, 6, 2, 6, 2, 5).permute(0, 2, 4, 1, 3, 5).reshape(4, 4, 36, 5)


def _mask_units(x: Tensor) -> Tensor:
    """Mask-unit attention's q, k, v, with the queries pooled by a maximum over rank six."""
    q, k, v = x.reshape(2, -1, 6, 3, 2, 10).permute(3, 0, 4, 2, 1, 5).unbind(0)
    return q.reshape(2, 2, 6, 2, -1, 10).amax(3).sum(-1) + (k * v).mean((-1, -2))[..., None]


def _arithmetic(x: Tensor) -> Tensor:
    big = x.reshape(2, 2, 6, 2, 6, 2, 5)
    bias = torch.arange(12.0).reshape(6, 1, 1, 2, 1)
    shifted = torch.relu(big * 2 + bias) - big.mean(-1, keepdim=True)
    return torch.cat([shifted[:, :, 1:], big], 2).transpose(1, 5).flatten(1, 4).sum(-1)


def _pieces(x: Tensor) -> tuple[Tensor, ...]:
    big = x.reshape(2, 2, 6, 2, 6, 2, 5)
    left, right = big.split([2, 4], 4)
    return left.select(3, 1).select(2, 0), right.reshape(4, -1), big.squeeze(0).unsqueeze(0)[..., 1, 0].amin((1, 3))


def _nested_windows(x: Tensor) -> Tensor:
    """Three window partitions as one permute: nothing merges below ten dimensions."""
    image = x.reshape(4, 12, 12, 5).repeat(1, 2, 2, 1)
    return image.reshape(4, 3, 2, 2, 2, 3, 2, 2, 2, 5).permute(0, 4, 8, 3, 7, 2, 6, 1, 5, 9).reshape(4, 64, 9, 5) * 2


FORMS: dict[str, Form] = {
    "windows": _windows,
    "mask_units": _mask_units,
    "arithmetic": _arithmetic,
    "pieces": _pieces,
    "nested_windows": _nested_windows,
}


class Applied(nn.Module):
    """A form of one argument as a module."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        self.form = form

    def forward(self, x: Tensor) -> Any:
        return self.form(x)
