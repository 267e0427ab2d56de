"""Three difficulties of the same line: as it was drawn, as a camera sees it, and as a bad one held askew does."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

DIFFICULTIES = ("clean", "noisy", "hard")
Range = tuple[float, float]


@dataclass(frozen=True)
class _Camera:
    """From what to what each flaw is drawn for a line: grey levels of 255, pixels, degrees.

    Args:
        blur: standard deviation.
        noise: standard deviation.
        dark, light: of ink and paper.
        degrees: it is turned by.
        coarser: how many pixels become one.
        slope: share of light that the right end has more than the middle.
        inverted: share of lines with light ink on dark paper.
    """

    blur: Range
    noise: Range
    dark: Range
    light: Range
    degrees: Range = (0.0, 0.0)
    coarser: Range = (1.0, 1.0)
    slope: Range = (0.0, 0.0)
    inverted: float = 0.0


_CAMERAS = {
    "noisy": _Camera(blur=(0.6, 1.5), noise=(8, 24), dark=(0, 80), light=(170, 250)),
    "hard": _Camera(
        blur=(0.4, 1.0),
        noise=(10, 26),
        dark=(20, 100),
        light=(150, 235),
        degrees=(-2.5, 2.5),
        coarser=(1.8, 2.6),
        slope=(-0.25, 0.25),
        inverted=0.25,
    ),
}


def damage(image: NDArray[np.uint8], difficulty: str, seed: int) -> NDArray[np.uint8]:
    """A line as it is seen at a difficulty.

    Args:
        image: black on white, uint8 [48, width].
        difficulty: one of ``DIFFICULTIES``.
        seed: the same one gives the same damage.
    """
    if difficulty not in _CAMERAS:
        return image
    camera, rng = _CAMERAS[difficulty], np.random.default_rng([DIFFICULTIES.index(difficulty), seed])
    ink = 1 - torch.from_numpy(image).float() / 255
    ink = _coarser(_turned(ink, rng.uniform(*camera.degrees)), rng.uniform(*camera.coarser))
    ink = _blurred(ink, rng.uniform(*camera.blur))
    dark, light = rng.uniform(*camera.dark), rng.uniform(*camera.light)
    if rng.random() < camera.inverted:
        dark, light = light, dark
    seen = (light + (dark - light) * ink) * (1 + rng.uniform(*camera.slope) * torch.linspace(-1, 1, ink.shape[1]))
    noise = torch.from_numpy(rng.standard_normal(seen.shape, dtype=np.float32))
    return (seen + noise * rng.uniform(*camera.noise)).round().clamp(0, 255).to(torch.uint8).numpy()


def _turned(ink: Tensor, degrees: float) -> Tensor:
    """Turned about the middle; what comes in from outside is paper."""
    height, width = ink.shape
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # Grid coordinates run from -1 to 1 on both axes, so the turn is of another shape in them.
    theta = torch.tensor([[[cos, -sin * height / width, 0.0], [sin * width / height, cos, 0.0]]])
    grid = functional.affine_grid(theta, [1, 1, height, width], align_corners=False)
    return functional.grid_sample(ink[None, None], grid, align_corners=False)[0, 0]


def _coarser(ink: Tensor, factor: float) -> Tensor:
    """At a resolution lower by ``factor``, then up to the old size again."""
    height, width = ink.shape
    small = functional.interpolate(ink[None, None], (round(height / factor), round(width / factor)), mode="area")
    return functional.interpolate(small, (height, width), mode="bilinear", align_corners=False)[0, 0]


def _blurred(ink: Tensor, sigma: float) -> Tensor:
    """Convolved with a Gaussian of ``sigma`` pixels."""
    offsets = torch.arange(-3, 4).float()
    kernel = torch.exp(-0.5 * (offsets / sigma).square())
    kernel = kernel / kernel.sum()
    across = functional.conv2d(ink[None, None], kernel.reshape(1, 1, 1, 7), padding=(0, 3))
    return functional.conv2d(across, kernel.reshape(1, 1, 7, 1), padding=(3, 0))[0, 0]
