"""Random changes to training images that leave their class alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Changes:
    """How far an image is changed at most: shift in pixels, rotation in radians, share of its size."""

    shift: int
    rotation: float
    scale: float


CHANGES = {"fashion-mnist": Changes(2, 0.0, 0.0), "quickdraw-345": Changes(3, 0.25, 0.2)}


def augment(images: Tensor, changes: Changes, generator: torch.Generator) -> Tensor:
    """Images [N, 1, H, W] mirrored half of the time, shifted by whole pixels, turned and scaled."""

    def uniform(low: float, high: float) -> Tensor:
        drawn = torch.rand(len(images), generator=generator, device=images.device)
        return low + (high - low) * drawn

    angle = uniform(-changes.rotation, changes.rotation)
    scale = 1 + uniform(-changes.scale, changes.scale)
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    # affine_grid counts half an image as 1.
    shifts = [(uniform(-0.5, 0.5) * (2 * changes.shift + 1)).round() * 2 / size for size in images.shape[2:]]
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    rows = [mirror * cosine, -sine, shifts[1], mirror * sine, cosine, shifts[0]]
    grid = F.affine_grid(torch.stack(rows, 1).view(-1, 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
