"""Writing results so that a full disk or an interruption leaves nothing half-written."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all; its folder is made if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def copy_folder(source: Path, destination: Path) -> None:
    """Put a folder's contents at ``destination``, replacing what is there only once the copy is complete."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=f".{destination.name}.") as scratch:
        copy = Path(scratch) / "new"
        copy.mkdir()
        # Not copytree: it hides the system's error, a full disk among them, behind one without a code.
        for path in sorted(source.rglob("*")):
            target = copy / path.relative_to(source)
            if path.is_dir():
                target.mkdir()
            else:
                shutil.copyfile(path, target)
        if destination.exists():
            destination.replace(Path(scratch) / "old")
        copy.replace(destination)
