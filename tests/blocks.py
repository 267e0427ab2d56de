"""Fenced code blocks of Markdown pages, and running them as a reader would."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

_FENCE = re.compile(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """One fenced block. ``file`` is the name its text is to be saved under, if the page gives one."""

    language: str
    file: str | None
    text: str
    line: int


def blocks(path: Path, *languages: str) -> list[Block]:
    """The page's blocks in these languages, in order; all of them if none is named."""
    page = path.read_text(encoding="utf-8")
    found = [
        Block(match[1], match[2], match[3], page.count("\n", 0, match.start()) + 2) for match in _FENCE.finditer(page)
    ]
    return [block for block in found if not languages or block.language in languages]


def run_page(page: Path, given: Sequence[Block], names: Mapping[str, Any] | None = None) -> int:
    """Save the blocks that are files, run the other Python blocks in one namespace, and compare what they print.

    A ``text`` block after a Python block is what that block prints, but for blank lines at the end.
    Returns how many blocks ran.
    """
    namespace: dict[str, Any] = {"__name__": f"page_{page.stem}", **(names or {})}
    printed, ran = "", 0
    for block in given:
        if block.file is not None:
            Path(block.file).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            out = io.StringIO()
            # Blank lines first, so that a traceback shows the page's own line number.
            code = compile("\n" * (block.line - 1) + block.text, str(page), "exec", dont_inherit=True)
            with contextlib.redirect_stdout(out):
                exec(code, namespace)
            printed, ran = out.getvalue(), ran + 1
        elif block.language == "text":
            assert printed.rstrip() == block.text.rstrip(), (
                f"{page.name}:{block.line} shows something else than is printed:\n{printed}"
            )
    return ran
