"""Example images: seeded, structured like photographs, and different from one another in more than their noise."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def example_images(count: int, channels: int, height: int, width: int, seed: int = 0) -> Tensor:
    """``[count, channels, height, width]`` float32 with about zero mean and unit scale.

    Each image is a sum of noise octaves with amplitude falling with frequency, in its own colour and contrast.
    White noise would do for shapes only: after a few strided convolutions all white-noise images look alike, and a
    network's output on them hardly depends on the input, so a comparison on them proves little.
    """
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, channels, 1, 1, generator=generator).expand(count, channels, height, width).clone()
    cells, amplitude = 2, 1.0
    while cells <= max(height, width):
        grid = torch.randn(count, channels, min(cells, height), min(cells, width), generator=generator)
        octave = F.interpolate(grid, size=(height, width), mode="bilinear", align_corners=False)
        images += amplitude * octave
        cells, amplitude = cells * 2, amplitude * 0.7
    contrast = 0.5 + torch.rand(count, 1, 1, 1, generator=generator)
    return images * contrast / images.std()
