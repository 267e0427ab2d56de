"""What the lines say: English prose from a Debian package; documents for calibration are not those for the test."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import PurePosixPath

import numpy as np

from hycompile.errors import CaptureError
from hycompile.models.vision_data.packages import DataPackage, opened, read

PACKAGE = DataPackage(
    source="debian",
    name="anarchism",
    version="15.3-3",
    sha256="cf21c10948b00e923c62eb31c39a3390413fa26c5ee0e3b925feb0ec7fe42948",
    licence="GPL-2.0-or-later",
)
_FOLDER = "./usr/share/doc/anarchism/html/"
# How the names of the documents of either side begin.
DOCUMENTS = {"calibration": "append", "test": "sec"}
_SHORTEST, _LONGEST = 8, 32


def words() -> dict[str, list[str]]:
    """The words of each side's documents, one after another."""
    found: dict[str, list[str]] = {}
    with opened(PACKAGE) as archive:
        names = sorted(name for name in archive.getnames() if name.startswith(_FOLDER) and name.endswith(".html"))
        for side, prefix in DOCUMENTS.items():
            chosen = [name for name in names if PurePosixPath(name).name.startswith(prefix)]
            texts = (text_of(read(archive, name).decode("utf-8", errors="replace")) for name in chosen)
            found[side] = [word for text in texts for word in text.split() if _readable(word)]
    if not all(found.values()):
        raise CaptureError(f"package {PACKAGE.request}", "has no documents", "report this with its hash")
    return found


def _readable(word: str) -> bool:
    """No lone dashes and dots, whose spaces nobody can see, and nothing beyond ASCII."""
    return word.isascii() and any(map(str.isalnum, word))


def text_of(page: str) -> str:
    """What a reader of an HTML page sees of its paragraphs."""
    reader = _Paragraphs()
    reader.feed(page)
    return "".join(reader.parts)


def lines(words: list[str], seed: int) -> Iterator[str]:
    """Lines of 8 to 32 characters without end, each from a random place; a word longer than that is left out."""
    rng = np.random.default_rng(seed)
    short = [word for word in words if len(word) <= _LONGEST]
    while True:
        wanted, at = int(rng.integers(_SHORTEST, _LONGEST + 1)), int(rng.integers(len(short)))
        line = short[at]
        while at + 1 < len(short) and len(f"{line} {short[at + 1]}") <= wanted:
            at += 1
            line = f"{line} {short[at]}"
        if _SHORTEST <= len(line) <= _LONGEST:
            yield line


class _Paragraphs(HTMLParser):
    """Collects the text of paragraphs and quotations."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("p", "blockquote"):
            self._inside = True
            self.parts.append(" ")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("p", "blockquote", "body"):
            self._inside = False
            self.parts.append(" ")

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.parts.append(data)
