"""A small EfficientFormer: pooling blocks on feature maps, then attention over 64 tokens with a table of biases."""

from __future__ import annotations

from typing import Any

from timm.models.efficientformer import Attention, EfficientFormer, MetaBlock1d

_WIDTH, _GRID = 80, 8


def efficientformer(classes: int) -> EfficientFormer:
    """``[N, 1, 32, 32]`` to ``[N, classes]``, the mean of two heads.

    The published network reaches its attention after 32-fold subsampling, at 7x7 tokens; here the second convolution
    of the stem keeps its resolution and the attention sees 8x8 tokens.

    Source: Li et al. 2022, "EfficientFormer"; the blocks are timm's.
    """
    network = EfficientFormer(
        depths=(2, 4),
        embed_dims=(32, _WIDTH),
        in_chans=1,
        num_classes=classes,
        num_vit=2,
        # A network of six blocks needs no start near the identity, and branches that matter are what is quantized.
        layer_scale_init_value=0.1,
    )
    stem: Any = network.stem
    stem.conv2.stride = (1, 1)
    for block in network.modules():
        if isinstance(block, MetaBlock1d):
            block.token_mixer = Attention(_WIDTH, key_dim=16, num_heads=4, attn_ratio=2, resolution=_GRID)
    return network
