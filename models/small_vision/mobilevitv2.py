"""A small MobileViTv2: inverted residuals, and separable attention of linear cost over patches of two feature maps."""

from __future__ import annotations

from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg

from hycompile.models.small_vision.mobilevit import inverted_residual


def mobilevitv2(classes: int) -> ByobNet:
    """``[N, 1, 32, 32]`` to ``[N, classes]``.

    Source: Mehta and Rastegari 2022, "Separable Self-attention for Mobile Vision Transformers"; the blocks are timm's.
    """
    plan = ByoModelCfg(
        blocks=(
            inverted_residual(40, 1),
            (inverted_residual(80, 1), _transformers(80)),
            (inverted_residual(144, 2), _transformers(144)),
        ),
        stem_chs=16,
        stem_type="3x3",
        stem_pool="",
        downsample="",
        act_layer="silu",
    )
    return ByobNet(plan, num_classes=classes, in_chans=1)


def _transformers(width: int) -> ByoBlockCfg:
    arguments = {"transformer_depth": 2, "patch_size": 2}
    return ByoBlockCfg(type="mobilevit2", d=1, c=width, s=1, br=0.5, gs=1, block_kwargs=arguments)
