"""Fashion-MNIST from Debian: photographs of clothes, 60,000 to train on and 10,000 to test on, as published."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hycompile.errors import CaptureError
from hycompile.models.vision_data.packages import DataPackage, opened, read

PACKAGE = DataPackage(
    source="debian",
    name="dataset-fashion-mnist",
    version="0.0~git20200523.55506a9-1",
    sha256="39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
    licence="MIT",
)
REVISION = 1
CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
_FOLDER = "./usr/share/datasets/fashion-mnist"
_MAGIC = 0x0800  # unsigned bytes; the number of axes is added


def parse() -> Mapping[str, NDArray[Any]]:
    """The arrays of :func:`hycompile.models.vision_data.dataset.load`, from the package."""
    parts: dict[str, NDArray[Any]] = {"classes": np.array(CLASSES)}
    with opened(PACKAGE) as archive:
        for split, stem in (("train", "train"), ("test", "t10k")):
            images = read(archive, f"{_FOLDER}/{stem}-images-idx3-ubyte.gz")
            labels = read(archive, f"{_FOLDER}/{stem}-labels-idx1-ubyte.gz")
            parts[f"{split}_images"] = idx(gzip.decompress(images))
            parts[f"{split}_labels"] = idx(gzip.decompress(labels)).astype(np.int64)
    return parts


def idx(content: bytes) -> NDArray[np.uint8]:
    """An array in the idx format of MNIST: a magic number, the length of each axis, bytes."""
    magic = struct.unpack_from(">I", content)[0]
    axes = magic - _MAGIC
    if axes not in (1, 3):
        raise CaptureError("idx file", f"starts with {magic:#x}", "images start with 0x803 and labels with 0x801")
    shape = struct.unpack_from(f">{axes}I", content, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)
