"""Lines for calibration and for the test: drawn once from packages, kept in hycompile's cache."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hycompile.errors import CaptureError
from hycompile.models.text_lines.difficulty import DIFFICULTIES, damage
from hycompile.models.text_lines.draw import HEIGHT, WIDTH, draw
from hycompile.models.text_lines.fonts import CALIBRATION, TEST, Fonts
from hycompile.models.text_lines.prose import PACKAGE, lines, words
from hycompile.models.vision_data.kept import kept

if TYPE_CHECKING:
    from torch import Tensor

REVISION = 1
COUNTS = {"calibration": 1024, "test": 2048}
_FONTS = {"calibration": CALIBRATION, "test": TEST}
_SEEDS = {"calibration": 1, "test": 2}


@dataclass(frozen=True)
class Lines:
    """Lines of one side.

    Args:
        images: as drawn, uint8 [N, 48, 320]; what a line does not fill is 255.
        widths: columns that each fills.
        texts: what each says.
        fonts: the file name of the font of each.
    """

    images: NDArray[np.uint8]
    widths: NDArray[np.int64]
    texts: tuple[str, ...]
    fonts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def seen(self, index: int, difficulty: str) -> NDArray[np.uint8]:
        """A line at a difficulty, uint8 [48, width]; the same every time."""
        return damage(self.images[index, :, : self.widths[index]], difficulty, index)


@dataclass(frozen=True)
class LineSet:
    """Lines that share neither documents nor font families, on either side."""

    calibration: Lines
    test: Lines

    def drawn(self, count: int, seed: int) -> list[NDArray[np.uint8]]:
        """``count`` calibration lines, drawn without replacement, of all difficulties in turn.

        Raises:
            CaptureError: more lines are asked for than there are.
        """
        if not 0 < count <= len(self.calibration):
            reason = f"there are {len(self.calibration)} calibration lines"
            raise CaptureError(f"calibration on {count} lines", reason, f"ask for 1 to {len(self.calibration)}")
        chosen = np.random.default_rng(seed).permutation(len(self.calibration))[:count]
        return [
            self.calibration.seen(int(index), DIFFICULTIES[at % len(DIFFICULTIES)]) for at, index in enumerate(chosen)
        ]


def load() -> LineSet:
    """The lines, from the cache or, the first time, drawn with fonts and text of Debian packages.

    Raises:
        CaptureError: a package cannot be fetched or verified, or the lines cannot be kept.
    """
    hashes = [fonts.package.sha256 for side in _FONTS.values() for fonts in side]
    digest = hashlib.sha256(" ".join([PACKAGE.sha256, *hashes]).encode()).hexdigest()
    parts = kept(f"text-lines-{digest[:16]}-{REVISION}.npz", _parse)
    sides = {
        side: Lines(
            parts[f"{side}_images"],
            parts[f"{side}_widths"],
            tuple(str(text) for text in parts[f"{side}_texts"]),
            tuple(str(font) for font in parts[f"{side}_fonts"]),
        )
        for side in COUNTS
    }
    return LineSet(**sides)


def network_input(images: list[NDArray[np.uint8]]) -> Tensor:
    """Lines as the recogniser takes them: float32 [N, 3, 48, 320] in [-1, 1], and 0 where a line has ended."""
    import torch

    found = torch.zeros(len(images), 3, HEIGHT, WIDTH)
    for row, image in zip(found, images, strict=True):
        row[:, :, : image.shape[1]] = torch.from_numpy(np.ascontiguousarray(image)).float() / 127.5 - 1
    return found


def _parse() -> Mapping[str, NDArray[Any]]:
    spoken = words()
    parts: dict[str, NDArray[Any]] = {}
    for side, count in COUNTS.items():
        found = _draw(spoken[side], _FONTS[side], count, _SEEDS[side])
        parts |= {f"{side}_{name}": array for name, array in found.items()}
    return parts


def _draw(spoken: list[str], families: tuple[Fonts, ...], count: int, seed: int) -> Mapping[str, NDArray[Any]]:
    """Lines in all fonts in turn, families first, so that one with many styles has no more lines than another."""
    fonts = [list(family.read().items()) for family in families]
    images, widths = np.full((count, HEIGHT, WIDTH), 255, np.uint8), np.zeros(count, np.int64)
    texts, names = list[str](), list[str]()
    for text in lines(spoken, seed):
        family, turn = fonts[len(texts) % len(fonts)], len(texts) // len(fonts)
        name, content = family[turn % len(family)]
        image = draw(text, content)
        if image is None or text in texts:
            continue
        images[len(texts), :, : image.shape[1]] = image
        widths[len(texts)] = image.shape[1]
        texts.append(text)
        names.append(name)
        if len(texts) == count:
            break
    return {"images": images, "widths": widths, "texts": np.array(texts), "fonts": np.array(names)}
