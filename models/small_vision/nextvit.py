"""A small Next-ViT: multi-head convolutions, and blocks that join pooled attention with them."""

from __future__ import annotations

from timm.layers import ClassifierHead
from timm.models.nextvit import ConvNormAct, NextConvBlock, NextStage, NextTransformerBlock
from torch import Tensor, nn

_HEAD = 16


class NextVit(nn.Module):
    """``[N, 1, 32, 32]`` to ``[N, classes]``: attention over 8x8 queries and 16 pooled keys, then over 4x4.

    timm's class fixes the widths of its stages.

    Source: Li et al. 2022, "Next-ViT"; the blocks are timm's.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(ConvNormAct(1, 16), ConvNormAct(16, 32, stride=2))
        self.stages = nn.Sequential(
            NextStage(32, [48], [NextConvBlock], stride=1, head_dim=_HEAD),
            _hybrid_stage(48, [64, 96], sr_ratio=2),
            _hybrid_stage(96, [96, 128], sr_ratio=1),
        )
        self.norm = nn.BatchNorm2d(128)
        self.head = ClassifierHead(128, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.norm(self.stages(self.stem(images))))


def _hybrid_stage(width: int, widths: list[int], sr_ratio: int) -> NextStage:
    """At half the resolution a convolution block, then one with attention in two thirds or more of its channels."""
    blocks: list[type[nn.Module]] = [NextConvBlock, NextTransformerBlock]
    # timm rounds to multiples of 32: the published 0.75 would leave no convolution at a width of 96.
    return NextStage(width, widths, blocks, stride=2, sr_ratio=sr_ratio, mix_block_ratio=0.7, head_dim=_HEAD)
