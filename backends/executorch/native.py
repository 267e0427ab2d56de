"""The runtime's C++ side: its Python binding, its thread pool, and what it prints to the process's standard error."""

from __future__ import annotations

import importlib
import os
import re
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, redirect_stderr
from functools import cache
from typing import Any

# How the runtime marks its own lines: "[program.cpp:114] File size is too small."
_LOG_LINE = re.compile(r"^\[\w+\.(?:cpp|h):\d+\] (?P<text>.*)$")


def runtime() -> Any:
    """The binding module: unlike ``executorch.runtime``, it offers the thread pool and state by name."""
    return importlib.import_module("executorch.extension.pybindings.portable_lib")


def set_threads(threads: int | None) -> None:
    """Size the process-wide thread pool; None restores the size the runtime chose by itself."""
    own = _own_threads()
    runtime()._unsafe_reset_threadpool(threads or own)


@cache
def _own_threads() -> int:
    return int(runtime()._threadpool_get_thread_count())


@contextmanager
def native_log() -> Generator[list[str]]:
    """Collects the runtime's log lines; other output is passed on.

    The runtime writes some to Python's standard error and some past it to file descriptor 2. The lines are in the list
    once the block is left, also by an exception.
    """
    lines: list[str] = []
    sys.stderr.flush()
    keep = os.dup(2)
    try:
        with tempfile.TemporaryFile("w+", errors="replace") as caught:
            os.dup2(caught.fileno(), 2)
            try:
                with redirect_stderr(caught):
                    yield lines
            finally:
                caught.flush()
                os.dup2(keep, 2)
                caught.seek(0)
                _sort(caught.read(), lines)
    finally:
        os.close(keep)


def _sort(text: str, lines: list[str]) -> None:
    for line in text.splitlines():
        match = _LOG_LINE.match(line)
        if match:
            lines.append(match["text"])
        else:
            print(line, file=sys.stderr)  # noqa: T201 - it is another library's, on its way to where it was going
