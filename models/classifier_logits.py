"""A transformers image classifier as a function from pixels to logits."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class ClassifierLogits(nn.Module):
    """Wraps ``...ForImageClassification``, whose own result is a dataclass with a loss.

    Args:
        model: takes ``pixel_values`` [N, 3, H, W] and returns an object with ``logits`` [N, classes].
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        return self.model(pixel_values=pixels).logits
