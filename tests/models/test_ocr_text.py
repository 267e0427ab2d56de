"""Rendering a line and decoding logits, without any weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hycompile.errors import CaptureError
from hycompile.models.ocr_text import decode, read_dictionary, render


def test_a_line_is_black_on_white_and_padded_with_zeros() -> None:
    image = render("hello")
    assert tuple(image.shape) == (1, 3, 48, 320)
    assert float(image.max()) == 1.0
    assert float(image.min()) < -0.9
    assert bool((image[..., -100:] == 0).all())
    assert torch.equal(image[:, 0], image[:, 2])


def test_a_long_line_is_squeezed_into_the_width() -> None:
    image = render("a line that is wider than 320")
    assert float((image[..., -6:] - 1).abs().max()) < 0.1, "the right margin is white, not padding"


@pytest.mark.parametrize("text", ["", "   "])
def test_an_empty_line_is_refused(text: str) -> None:
    with pytest.raises(CaptureError, match="is empty"):
        render(text)


def test_too_long_a_line_is_refused_with_the_length_that_fits() -> None:
    with pytest.raises(CaptureError, match=r"needs more than 320 pixels; give about \d\d characters at most"):
        render("far too many letters to be read in a single line")


def test_letters_the_font_lacks_are_named() -> None:
    with pytest.raises(CaptureError, match="has no '你好'"):
        render("hi 你好")


def test_decoding_merges_repeats_and_drops_blanks(tmp_path: Path) -> None:
    (tmp_path / "dictionary.txt").write_text("a\nb", encoding="utf-8")
    characters = read_dictionary(tmp_path / "dictionary.txt")
    assert characters == ["", "a", "b", " "]
    classes = torch.tensor([0, 1, 1, 0, 1, 2, 3, 0, 3, 2])
    logits = torch.nn.functional.one_hot(classes, 4)[None].float()
    assert decode(logits, characters) == "aab  b"
