"""Arrays made once and kept in hycompile's cache."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hycompile.cache import default_root
from hycompile.errors import CaptureError


def kept(name: str, make: Callable[[], Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """The arrays of a file in the cache's folder ``data``; ``make`` gives them if there is none yet.

    Args:
        name: of the ``.npz`` file; says all that decides its content.
        make: the arrays by name.

    Raises:
        CaptureError: the file cannot be read or written.
    """
    path = default_root() / "data" / name
    if not path.is_file():
        _keep(path, make())
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as found:
            return {key: found[key] for key in found.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise CaptureError(f"{path}", f"cannot be read ({error})", "delete it to fetch the data again") from error


def _keep(path: Path, parts: Mapping[str, NDArray[Any]]) -> None:
    """Write a file whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.stem}-", dir=path.parent) as scratch:
            written = Path(scratch) / path.name
            np.savez_compressed(written, allow_pickle=False, **parts)
            written.replace(path)
    except OSError as error:
        raise CaptureError(f"{path}", f"cannot be written ({error})", "free space or set HYCOMPILE_CACHE") from error
