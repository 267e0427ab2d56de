"""What every command shares about output: one JSON document on stdout, everything else on stderr."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

if TYPE_CHECKING:
    from rich.console import Console

JsonFlag = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document on stdout.")]
Progress = Callable[[str], None]


def print_json(document: Any) -> None:
    """Write one JSON document to stdout; numbers JSON cannot hold (infinity, NaN) become null."""
    sys.stdout.write(json.dumps(_finite(document), indent=2, default=str) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in cast("dict[Any, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in cast("list[Any]", value)]
    return value


def console() -> Console:
    """A rich console on stdout that never cuts a table's words on a pipe."""
    from rich.console import Console

    out = Console(highlight=False)
    return out if out.is_terminal else Console(highlight=False, width=160)


@contextmanager
def working() -> Generator[Progress]:
    """Long work: yields a function that says on stderr what is being done, and keeps stdout for the result.

    Compilers print on stdout as they like, some from C++; during the work the stdout file descriptor is stderr.
    """
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        with _spinner() if sys.stderr.isatty() else _lines() as say:
            yield say
    finally:
        sys.stdout.flush()
        os.dup2(saved, 1)
        os.close(saved)


@contextmanager
def _spinner() -> Generator[Progress]:
    from rich.console import Console

    with Console(stderr=True).status("starting") as status:
        yield status.update


@contextmanager
def _lines() -> Generator[Progress]:
    yield lambda message: print(message, file=sys.stderr, flush=True)
