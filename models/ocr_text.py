"""Text to an image the recogniser takes, and its logits back to text."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from hycompile.errors import CaptureError

HEIGHT, WIDTH = 48, 320
_FONT_SIZE, _MARGIN = 32, 6
# Letters squeezed to less than this share of their width are no longer legible.
_NARROWEST = 0.6
# A code point no font has: drawn as the font's box for missing characters.
_NO_GLYPH = "\U0010fffe"


def render(text: str, width: int = WIDTH) -> Tensor:
    """Black text on white in Pillow's built-in font, as ``[1, 3, 48, width]`` float32 in [-1, 1].

    Text that is too wide is squeezed; the rest of a short line is filled with zeros, as in the recogniser's training.

    Raises:
        CaptureError: the text is empty, would have to be squeezed beyond legibility, or has characters the font lacks.
    """
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=_FONT_SIZE)
    drawn = math.ceil(font.getlength(text)) + 2 * _MARGIN
    if not text.strip():
        raise CaptureError(f"text {text!r}", "is empty", "give a line of about 30 characters")
    if drawn * _NARROWEST > width:
        longest = int(len(text) * width / (drawn * _NARROWEST))
        raise CaptureError(
            f"text {text!r}", f"needs more than {width} pixels", f"give about {longest} characters at most"
        )

    def draw(line: str, size: int) -> Image.Image:
        canvas = Image.new("RGB", (size, HEIGHT), "white")
        ImageDraw.Draw(canvas).text((_MARGIN, HEIGHT // 2), line, fill="black", font=font, anchor="lm")
        return canvas

    missing = draw(_NO_GLYPH, HEIGHT).tobytes()
    lacking = sorted({letter for letter in text if draw(letter, HEIGHT).tobytes() == missing})
    if lacking:
        raise CaptureError(f"text {text!r}", f"the built-in font has no {''.join(lacking)!r}", "give Latin text")
    line = draw(text, drawn)
    if drawn > width:
        line = line.resize((width, HEIGHT), Image.Resampling.BICUBIC)
    pixels = torch.frombuffer(bytearray(line.tobytes()), dtype=torch.uint8).reshape(HEIGHT, line.width, 3)
    image = torch.zeros(1, 3, HEIGHT, width)
    image[0, :, :, : line.width] = pixels.permute(2, 0, 1) / 127.5 - 1
    return image


def read_dictionary(path: Path) -> list[str]:
    """The characters by class: class 0 is the CTC blank, the last is the space, the file's lines lie between."""
    return ["", *path.read_text(encoding="utf-8").split("\n"), " "]


def decode(logits: Tensor, characters: list[str]) -> str:
    """Greedy CTC decoding of ``[1, T, classes]``: the best class per column, repeats merged, blanks dropped."""
    best = logits[0].argmax(-1)
    merged = torch.unique_consecutive(best)
    return "".join(characters[int(index)] for index in merged)
