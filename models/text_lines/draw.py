"""A line of text as an image."""

from __future__ import annotations

import io
import math

import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH = 48, 320
# Ascent and descent together, and the most a font's size is to be, in pixels.
_TALL, _LARGEST = 42, 36
_MARGIN = 6
# Letters are squeezed to this share of their width at most.
NARROWEST = 0.75


def draw(text: str, font: bytes) -> NDArray[np.uint8] | None:
    """Black text on white, uint8 [48, width] of at most 320 columns; None if the text does not fit.

    Args:
        text: one line.
        font: contents of a font file.
    """
    from PIL import Image, ImageDraw, ImageFont

    def at(size: int) -> ImageFont.FreeTypeFont:
        # The basic layout is the same wherever Pillow runs; the other one depends on a library of the system.
        return ImageFont.truetype(io.BytesIO(font), size, layout_engine=ImageFont.Layout.BASIC)

    ascent, descent = at(_LARGEST).getmetrics()
    face = at(min(_LARGEST, _LARGEST * _TALL // (ascent + descent)))
    ascent, descent = face.getmetrics()
    drawn = math.ceil(face.getlength(text)) + 2 * _MARGIN
    if drawn * NARROWEST > WIDTH:
        return None
    canvas = Image.new("L", (drawn, HEIGHT), 255)
    baseline = (HEIGHT - ascent - descent) // 2 + ascent
    ImageDraw.Draw(canvas).text((_MARGIN, baseline), text, fill=0, font=face, anchor="ls")
    if drawn > WIDTH:
        canvas = canvas.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    return np.array(canvas)
