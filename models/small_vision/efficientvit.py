"""A small EfficientViT: MBConv, and linear attention with a ReLU kernel at two scales."""

from __future__ import annotations

from typing import Any

from timm.models.efficientvit_mit import ClassifierHead, EfficientVitStage, Stem
from torch import Tensor, nn


class EfficientVit(nn.Module):
    """``[N, 1, 32, 32]`` to ``[N, classes]``: MBConv at 16x16, then linear attention over 8x8 tokens.

    timm's class has no attention before its third stage, which would see 2x2 tokens here.

    Source: Cai et al. 2022, "EfficientViT: Lightweight Multi-Scale Attention"; the blocks are timm's.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        norm, activation = nn.BatchNorm2d, nn.Hardswish
        stem: Any = Stem(1, 16, 1, norm, activation)
        stem.in_conv.conv.stride = (1, 1)
        self.stem = stem
        self.stages = nn.Sequential(
            EfficientVitStage(16, 32, 2, norm, activation, expand_ratio=4, head_dim=16),
            EfficientVitStage(32, 64, 2, norm, activation, expand_ratio=4, head_dim=16, vit_stage=True),
        )
        self.head = ClassifierHead(64, [192, 128], classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.stages(self.stem(images)))
