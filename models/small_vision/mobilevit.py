"""A small MobileViT: inverted residuals, and transformers over unfolded patches of two feature maps."""

from __future__ import annotations

from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg


def inverted_residual(width: int, stride: int) -> ByoBlockCfg:
    """A bottleneck twice as wide as its input, depthwise inside, with a linear output."""
    arguments = {"bottle_in": True, "linear_out": True}
    return ByoBlockCfg(type="bottle", d=1, c=width, s=stride, gs=1, br=2.0, block_kwargs=arguments)


def mobilevit(classes: int) -> ByobNet:
    """``[N, 1, 32, 32]`` to ``[N, classes]``: transformers over four times 64 pixels, then over four times 16.

    Source: Mehta and Rastegari 2021, "MobileViT"; the blocks are timm's.
    """
    plan = ByoModelCfg(
        blocks=(
            inverted_residual(24, 1),
            (inverted_residual(40, 1), _transformers(40, 56)),
            (inverted_residual(56, 2), _transformers(56, 72)),
        ),
        stem_chs=16,
        stem_type="3x3",
        stem_pool="",
        downsample="",
        act_layer="silu",
        num_features=160,
    )
    return ByobNet(plan, num_classes=classes, in_chans=1)


def _transformers(width: int, inside: int) -> ByoBlockCfg:
    arguments = {"transformer_dim": inside, "transformer_depth": 2, "patch_size": 2}
    return ByoBlockCfg(type="mobilevit", d=1, c=width, s=1, block_kwargs=arguments)
