"""A small RepViT: depthwise convolutions of three branches in a transformer's block layout."""

from __future__ import annotations

from typing import Any

from timm.models.repvit import RepVit


def repvit(classes: int) -> RepVit:
    """``[N, 1, 32, 32]`` to ``[N, classes]``; the branches are as in training, to be merged by the compiler.

    The second convolution of the stem keeps its resolution: stages at 16x16, 8x8 and 4x4.

    Source: Wang et al. 2023, "RepViT"; the blocks are timm's.
    """
    network: Any = RepVit(
        in_chans=1, img_size=32, embed_dim=(32, 64, 112), depth=(2, 2, 2), num_classes=classes, distillation=False
    )
    network.stem.conv2.c.stride = (1, 1)
    return network
