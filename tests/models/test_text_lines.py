"""Lines of text: drawing, difficulties, what each side is made of, with packages that are made here."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from io import BytesIO
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import ImageFont

from hycompile.errors import CaptureError
from hycompile.models.text_lines import dataset, fonts, prose
from hycompile.models.text_lines.dataset import load, network_input
from hycompile.models.text_lines.difficulty import DIFFICULTIES, damage
from hycompile.models.text_lines.draw import draw
from hycompile.models.text_lines.fonts import CALIBRATION, TEST

PAGE = "<html><title>No.</title><body><p>One two <b>three</b> &amp; four.</p>menu<p>Five sïx</p></body></html>"


@pytest.fixture(scope="module")
def font() -> bytes:
    """Pillow's built-in face."""
    face = ImageFont.load_default(size=20)
    assert isinstance(face, ImageFont.FreeTypeFont)
    assert isinstance(face.path, BytesIO)
    return face.path.getvalue()


def test_sides_share_no_package_and_no_document() -> None:
    packages = [{one.package.name for one in side} for side in (CALIBRATION, TEST)]
    assert not packages[0] & packages[1]
    files = [name for side in (CALIBRATION, TEST) for one in side for name in one.files]
    assert len(files) == len(set(files)) > 50
    assert not any(a.startswith(b) for a in prose.DOCUMENTS.values() for b in prose.DOCUMENTS.values() if a != b)


def test_text_is_that_of_paragraphs() -> None:
    assert prose.text_of(PAGE).split() == ["One", "two", "three", "&", "four.", "Five", "sïx"]


@pytest.mark.usefixtures("packages")
def test_words_are_ascii_with_letters_or_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prose, "read", lambda archive, path: PAGE.encode())
    assert set(prose.words()["test"]) == {"One", "two", "three", "four.", "Five"}


def test_lines_are_of_readable_length() -> None:
    words = [*("long" * 9, "a"), *(f"w{index**3}" for index in range(200))]
    found = list(islice(prose.lines(words, 3), 50))
    assert found == list(islice(prose.lines(words, 3), 50))
    assert all(8 <= len(line) <= 32 and "longlong" not in line for line in found)
    assert len({len(line) for line in found}) > 8


def test_a_line_is_drawn_squeezed_or_refused(font: bytes) -> None:
    short, squeezed = draw("short", font), draw("a line that is squeezed", font)
    assert short is not None
    assert squeezed is not None
    assert short.shape[0] == 48
    assert short.shape[1] < 120
    assert (short.min(), short.max(), short[0].min(), short[-1].min()) == (0, 255, 255, 255)
    assert squeezed.shape == (48, 320)
    assert draw("w" * 60, font) is None


def test_difficulties_get_worse_and_stay_the_same(font: bytes) -> None:
    image = draw("Hybrid networks", font)
    assert image is not None
    seen = {difficulty: damage(image, difficulty, 4) for difficulty in DIFFICULTIES}
    assert seen["clean"] is image
    for difficulty in ("noisy", "hard"):
        again, other = damage(image, difficulty, 4), damage(image, difficulty, 5)
        assert np.array_equal(again, seen[difficulty])
        assert not np.array_equal(other, seen[difficulty])
        assert (seen[difficulty].shape, seen[difficulty].dtype) == (image.shape, np.uint8)
    flat = image.astype(float).ravel()
    noisy, hard = (abs(np.corrcoef(flat, seen[name].astype(float).ravel())[0, 1]) for name in ("noisy", "hard"))
    assert 0.95 > noisy > hard + 0.05 > 0.4


@pytest.fixture
def packages(font: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Packages whose every font is Pillow's, documents that say which side they are of, and a list of what is read."""
    asked: list[str] = []
    names = [f"{prose._FOLDER}{stem}.html" for stem in ("append1", "append2", "secA", "index")]  # pyright: ignore[reportPrivateUsage]

    @contextmanager
    def opened(package: object) -> Generator[SimpleNamespace]:
        yield SimpleNamespace(getnames=lambda: names)

    def read(archive: object, path: str) -> bytes:
        asked.append(path)
        side = "appendix" if "append" in path else "section"
        return font if "/fonts/" in path else f"<p>{' '.join(f'{side}{index}' for index in range(400))}</p>".encode()

    for module in (fonts, prose):
        monkeypatch.setattr(module, "opened", opened)
        monkeypatch.setattr(module, "read", read)
    monkeypatch.setattr(dataset, "COUNTS", {"calibration": 6, "test": 12})
    monkeypatch.setenv("HYCOMPILE_CACHE", str(tmp_path))
    return asked


def test_lines_of_either_side_are_drawn_once(packages: list[str]) -> None:
    found = load()
    assert (len(found.calibration), len(found.test)) == (6, 12)
    assert all(word.startswith("append") for text in found.calibration.texts for word in text.split())
    assert all(word.startswith("section") for text in found.test.texts for word in text.split())
    assert not set(found.calibration.fonts) & set(found.test.fonts)
    owner = {name: one.package.name for one in TEST for name in one.files}
    assert [owner[font] for font in found.test.fonts[: len(TEST)]] == [one.package.name for one in TEST]
    assert found.test.fonts[0] != found.test.fonts[len(TEST)]
    assert not any(path.endswith("index.html") for path in packages)
    packages.clear()
    again = load()
    assert packages == []
    assert np.array_equal(again.test.images, found.test.images)
    assert again.test.texts == found.test.texts


@pytest.mark.usefixtures("packages")
def test_calibration_lines_are_of_all_difficulties() -> None:
    found = load()
    drawn = found.drawn(6, 0)
    assert sum(any(np.array_equal(line, found.calibration.seen(at, "clean")) for at in range(6)) for line in drawn) == 2
    assert not all(np.array_equal(a, b) for a, b in zip(drawn, found.drawn(6, 1), strict=True))
    with pytest.raises(CaptureError, match="calibration on 7 lines: there are 6 calibration lines"):
        found.drawn(7, 0)


def test_the_network_sees_zeros_where_a_line_has_ended() -> None:
    given = network_input([np.full((48, 100), 255, np.uint8), np.zeros((48, 320), np.uint8)])
    assert given.shape == (2, 3, 48, 320)
    assert (given[0, :, :, :100] == 1).all()
    assert (given[0, :, :, 100:] == 0).all()
    assert (given[1] == -1).all()
