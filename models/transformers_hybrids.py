"""Vision hybrids of transformers, built from their configuration classes, with seeded random weights.

Nothing is looked up on a model hub: the sizes that differ from a configuration's defaults stand here. Chosen as in
:mod:`hycompile.models.timm_hybrids`: blocks mix positions by convolution and by attention, or are one half of that.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hycompile.errors import CaptureError
from hycompile.models.family import Built, Description


@dataclass(frozen=True)
class _Variant:
    """Class prefix in transformers, image size, and configuration values that are not defaults."""

    prefix: str
    size: int
    config: dict[str, Any] = field(default_factory=dict[str, Any])


_VARIANTS = {
    "cvt-13": _Variant("Cvt", 224),
    "hiera-tiny": _Variant("Hiera", 224, {"embed_dim": 96, "depths": [1, 2, 7, 2]}),
    "levit-128s": _Variant("Levit", 224, {"depths": [2, 3, 4], "num_attention_heads": [4, 6, 8]}),
    "levit-128": _Variant("Levit", 224),
    "mobilevit-small": _Variant("MobileViT", 256),
    "mobilevit-x-small": _Variant(
        "MobileViT", 256, {"hidden_sizes": [96, 120, 144], "neck_hidden_sizes": [16, 32, 48, 64, 80, 96, 384]}
    ),
    "mobilevit-xx-small": _Variant(
        "MobileViT",
        256,
        {"hidden_sizes": [64, 80, 96], "neck_hidden_sizes": [16, 16, 24, 48, 64, 80, 320], "expand_ratio": 2.0},
    ),
    "mobilevitv2-0.5": _Variant("MobileViTV2", 256, {"width_multiplier": 0.5}),
    "mobilevitv2-1.0": _Variant("MobileViTV2", 256),
    "poolformer-s12": _Variant("PoolFormer", 224),
    "pvt-tiny": _Variant("Pvt", 224),
    "pvt-v2-b0": _Variant("PvtV2", 224),
    "segformer-b0": _Variant("Segformer", 224),
    "swiftformer-xs": _Variant("SwiftFormer", 224),
}
_PREFIX = "transformers/"


class TransformersHybrids:
    """The family ``transformers``: names are ``transformers/`` and the variant."""

    name = "transformers"

    def names(self) -> list[str]:
        if importlib.util.find_spec("transformers") is None:
            return []
        return sorted(f"{_PREFIX}{variant}" for variant in _VARIANTS)

    def aliases(self) -> Mapping[str, str]:
        return {}

    def describe(self, name: str) -> Description:
        variant = _variant(name)
        version = importlib.metadata.version("transformers")
        source = f"transformers {version}, {variant.prefix}ForImageClassification, seeded random weights"
        return Description(name, self.name, (1, 3, variant.size, variant.size), "Apache-2.0", source, pretrained=False)

    def identity(self, name: str, *, resolution: int | None = None, seed: int = 0) -> str:
        _variant(name)
        from hycompile.models.weights_revision import REVISION

        versions = " ".join(f"{package} {importlib.metadata.version(package)}" for package in ("transformers", "torch"))
        return f"{name} resolution={resolution} seed={seed} weights={REVISION} {versions}"

    def build(self, name: str, *, resolution: int | None = None, seed: int = 0) -> Built:
        """The classifier, returning its logits [1, 1000]."""
        variant = _variant(name)
        import torch

        from hycompile.models.classifier_logits import ClassifierLogits
        from hycompile.models.images import example_images
        from hycompile.models.sane_weights import set_sane_weights

        size = resolution or variant.size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = ClassifierLogits(_classifier(variant, size)).eval()
        try:
            set_sane_weights(module, example_images(4, 3, size, size, seed=seed), seed)
        except (RuntimeError, ValueError) as error:
            if resolution is None:
                raise
            way_out = f"its own is {variant.size}; leave --resolution out"
            raise CaptureError(
                f"model {name!r} at resolution {size}", f"the model refuses it ({error})", way_out
            ) from error
        return Built(module, (example_images(1, 3, size, size, seed=seed + 1),))


def _variant(name: str) -> _Variant:
    variant = _VARIANTS.get(name.removeprefix(_PREFIX)) if name.startswith(_PREFIX) else None
    if variant is None:
        raise CaptureError(f"model {name!r}", "not one of the transformers hybrids", "`hycompile models` lists them")
    return variant


def _classifier(variant: _Variant, size: int) -> Any:
    """``PREFIXForImageClassification`` with its own initial weights, sized for square images."""
    from hycompile.models.transformers_import import transformers_class

    model_class = transformers_class(f"{variant.prefix}ForImageClassification")
    config_class = model_class.config_class
    default = getattr(config_class(), "image_size", None)
    image = {} if default is None else {"image_size": [size, size] if isinstance(default, (list, tuple)) else size}
    return model_class(config_class(num_labels=1000, **image, **variant.config))


family = TransformersHybrids()
