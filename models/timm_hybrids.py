"""timm's hybrids by timm's own names, with seeded random weights.

A timm model is listed when its blocks mix positions both by convolution and by attention or a state space
(``_HYBRIDS``), or when it is one half of such a model alone: the re-parameterised convolutions that hybrids are built
from, or attention over a convolutional hierarchy (``_RELATIVES``). Selection is by timm module, and by name prefix
where a module also holds models of another kind.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from hycompile.errors import CaptureError
from hycompile.models.family import Built, Description

# timm module -> name prefix; "" takes the whole module.
_HYBRIDS = {
    "byoanet": "",  # ResNet stages with halo, lambda or bottleneck attention
    "coat": "",  # factorised attention with convolutional relative positions
    "cpubone": "",  # grouped-convolution blocks with attention over pooled maps
    "csatv2": "",  # ConvNeXt stages, then transformer stages
    "davit": "",  # window and channel attention with depthwise position convolutions
    "edgenext": "",  # split depthwise convolution with cross-covariance attention
    "efficientformer": "",  # pooling stages, then attention stages
    "efficientformer_v2": "",  # convolution feed-forward with talking-head attention
    "efficientvim": "",  # depthwise convolution with a hidden-state state-space mixer
    "efficientvit_mit": "",  # MBConv with multi-scale linear attention
    "efficientvit_msra": "",  # depthwise convolution with cascaded group attention
    "fastvit": "",  # RepMixer stages, attention in the last stage of the larger ones
    "gcvit": "",  # fused MBConv downsampling with global-query window attention
    "iformer": "",  # convolution stages, then single-head modulation attention
    "levit": "",  # convolutional stem with attention and batch norm
    "lowformer": "",  # MBConv with attention at reduced resolution
    "maxxvit": "",  # MaxViT, CoAtNet: MBConv with grid and window or relative attention
    "metaformer": "caformer",  # separable-convolution stages, then attention stages
    "mobilenetv3": "mobilenetv4_hybrid",  # universal inverted bottlenecks with mobile multi-query attention
    "mobilenetv5": "",  # the same with multi-scale fusion
    "mobilevit": "",  # inverted residuals with attention over unfolded patches
    "mvitv2": "",  # attention with depthwise-convolution pooling of queries, keys and values
    "nest": "",  # block attention with convolution and pooling between levels
    "nextvit": "",  # multi-head convolution with pooled attention
    "pit": "",  # attention with depthwise-convolution pooling
    "pvt_v2": "",  # overlapping convolutional embeddings, depthwise convolution in the feed-forward
    "shvit": "",  # depthwise convolution with single-head attention on part of the channels
    "swiftformer": "",  # depthwise convolution with additive attention
    "tiny_vit": "",  # MBConv stage, then window attention with local convolution
    "twins": "",  # local and sub-sampled attention with convolutional position encoding
    "visformer": "",  # grouped-convolution stage, then attention stages
    "vision_transformer_hybrid": "",  # ResNet or MobileCLIP stem under a vision transformer
    "vitamin": "",  # MBConv stages, then transformer stages
    "volo": "",  # convolutional stem with outlook attention
    "xcit": "",  # cross-covariance attention with local patch convolution
}
_RELATIVES = {
    "byobnet": "mobileone",  # the re-parameterised convolution blocks of FastViT, alone
    "hiera": "",  # attention over a convolution-embedded hierarchy, no convolution in the blocks
    "repvit": "",  # re-parameterised depthwise convolution in a transformer's block layout
}


@cache
def _listed() -> dict[str, str]:
    """Model name to timm module, read from the ``@register_model`` functions of timm's sources."""
    spec = importlib.util.find_spec("timm")
    if spec is None or spec.submodule_search_locations is None:
        return {}
    folder = Path(spec.submodule_search_locations[0]) / "models"
    found: dict[str, str] = {}
    for module, prefix in (_HYBRIDS | _RELATIVES).items():
        path = folder / f"{module}.py"
        source = path.read_text(encoding="utf-8") if path.is_file() else ""
        names = re.findall(r"^@register_model\s+def (\w+)\(", source, re.MULTILINE)
        found |= {name: module for name in names if name.startswith(prefix)}
    return dict(sorted(found.items()))


def _timm() -> Any:
    from hycompile.models.torchvision_schemas import declare_missing_operators

    declare_missing_operators()
    try:
        import timm
    except ImportError as error:
        raise CaptureError("timm", f"cannot be imported ({error})", "pip install timm") from error
    return timm


class TimmHybrids:
    """The family ``timm``."""

    name = "timm"

    def names(self) -> list[str]:
        return list(_listed())

    def aliases(self) -> Mapping[str, str]:
        return {}

    def describe(self, name: str) -> Description:
        _known(name)
        version = importlib.metadata.version("timm")
        return Description(
            name=name,
            family=self.name,
            input_shape=(1, *_input_size(name, None)),
            licence="Apache-2.0",
            source=f"timm {version}, module {_listed()[name]}, seeded random weights",
            pretrained=False,
        )

    def identity(self, name: str, *, resolution: int | None = None, seed: int = 0) -> str:
        _known(name)
        from hycompile.models.weights_revision import REVISION

        versions = " ".join(f"{package} {importlib.metadata.version(package)}" for package in ("timm", "torch"))
        return f"{name} resolution={resolution} seed={seed} weights={REVISION} {versions}"

    def build(self, name: str, *, resolution: int | None = None, seed: int = 0) -> Built:
        _known(name)
        import torch

        from hycompile.models.images import example_images
        from hycompile.models.sane_weights import set_sane_weights

        size = _input_size(name, resolution)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = _create(name, resolution)
        try:
            set_sane_weights(module, example_images(4, *size, seed=seed), seed)
        except (RuntimeError, AssertionError, ValueError) as error:
            if resolution is None:
                raise
            raise CaptureError(
                f"model {name!r} at resolution {resolution}",
                f"the model refuses it ({error})",
                f"its own is {_input_size(name, None)[1]}; leave --resolution out",
            ) from error
        return Built(module, (example_images(1, *size, seed=seed + 1),))


def _known(name: str) -> None:
    if name not in _listed():
        raise CaptureError(f"model {name!r}", "not one of timm's hybrids", "`hycompile models` lists them")


def _input_size(name: str, resolution: int | None) -> tuple[int, int, int]:
    """Channels, height and width timm states for the model, or the resolution asked for."""
    config = _timm().get_pretrained_cfg(name)
    channels, height, width = config.input_size
    return (channels, height, width) if resolution is None else (channels, resolution, resolution)


def _create(name: str, resolution: int | None) -> Any:
    """A model with timm's own initial weights; models with position tables are told the resolution."""
    timm = _timm()
    if resolution is None:
        return timm.create_model(name, pretrained=False).eval()
    try:
        return timm.create_model(name, pretrained=False, img_size=resolution).eval()
    except TypeError as error:
        if "img_size" not in str(error):
            raise
        return timm.create_model(name, pretrained=False).eval()


family = TimmHybrids()
