"""The content-addressed cache: artifacts by what they are made from, build reports by what was asked.

A key covers the program's weights and graph, the passes, the target, the versions of every tool and hycompile's own
sources, so nothing in the cache ever goes stale; it can be deleted at any time.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, entry_points, version
from importlib.util import find_spec
from pathlib import Path

from hycompile.artifact import MANIFEST, Artifact, file_digest
from hycompile.errors import ArtifactError
from hycompile.files import write_text

TOOLS = (
    "hycompile",
    "torch",
    "timm",
    "transformers",
    "executorch",
    "torchao",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "coremltools",
    "apache-tvm",
    "apache-tvm-ffi",
    "tensorrt",
    "tensorrt-rtx",
    "torch-mlir",
)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_DISK = (*_FULL, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR)


def default_root() -> Path:
    """``$HYCOMPILE_CACHE``, else ``hycompile`` in the user's cache folder."""
    if chosen := os.environ.get("HYCOMPILE_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hycompile"


@cache
def tool_versions() -> dict[str, str]:
    """Version of every installed package that shapes artifacts."""
    found: dict[str, str] = {}
    for name in TOOLS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def sources_digest() -> str:
    """SHA-256 over hycompile's own sources and those of every registered plug-in: a changed pass is another build.

    Left out is what only shows results.
    """
    root = Path(__file__).parent
    folders = [root, *(root / kind for kind in ("passes", "backends", "models"))]
    files = {path.resolve() for folder in folders for path in _files(folder)}
    files -= {path for shown in ("cli", "report") for path in _files(root / shown)}
    files |= {path for kind in ("passes", "backends", "models") for path in _plugin_files(f"hycompile.{kind}")}
    sha = hashlib.sha256()
    for path in sorted(files):
        sha.update(f"{path.name} {file_digest(path)}\n".encode())
    return sha.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    """Sources below a folder, which may itself be a link."""
    for path in folder.resolve().rglob("*"):
        if path.suffix in (".py", ".toml"):
            yield path


def _plugin_files(group: str) -> Iterator[Path]:
    for point in entry_points(group=group):
        package = point.module.partition(".")[0]
        if package == "hycompile":
            continue
        spec = find_spec(package)
        origin = Path(spec.origin) if spec and spec.origin else None
        if origin is not None and origin.name == "__init__.py":
            yield from _files(origin.parent)
        elif origin is not None and origin.is_file():
            yield origin


def key(**parts: object) -> str:
    """SHA-256 over named parts, tool versions and sources."""
    everything = parts | {"tools": tool_versions(), "sources": sources_digest()}
    return hashlib.sha256(json.dumps(everything, sort_keys=True, default=str).encode()).hexdigest()


class Cache:
    """Folders of artifacts and files of build reports under one root.

    Args:
        root: where; made when first written to.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or default_root()

    def artifact(self, key: str) -> Artifact | None:
        """The artifact stored under ``key``; a damaged one is removed and counts as absent."""
        folder = self._artifact_folder(key)
        if not (folder / MANIFEST).exists():
            return None
        try:
            return Artifact.load(folder)
        except ArtifactError:
            shutil.rmtree(folder, ignore_errors=True)
            return None

    @contextmanager
    def writing(self, key: str) -> Generator[Path]:
        """A private folder that becomes the artifact under ``key`` when the block succeeds, and vanishes otherwise.

        Raises:
            ArtifactError: the disk is full or the cache cannot be written.
        """
        folder = self._artifact_folder(key)
        with self._disk_errors():
            folder.parent.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".building-"))
        try:
            with self._disk_errors():
                yield temporary
                if folder.exists():
                    shutil.rmtree(folder)
                temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def report(self, key: str) -> str | None:
        """The build report stored under ``key``, as JSON text."""
        path = self._report_file(key)
        return path.read_text() if path.is_file() else None

    def store_report(self, key: str, text: str) -> None:
        """Store a build report; whole or not at all."""
        path = self._report_file(key)
        with self._disk_errors():
            write_text(path, text)

    def _artifact_folder(self, key: str) -> Path:
        return self.root / "artifacts" / key[:2] / key

    def _report_file(self, key: str) -> Path:
        return self.root / "builds" / key[:2] / f"{key}.json"

    @contextmanager
    def _disk_errors(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in _DISK:
                raise disk_error(self.root, error) from error
            raise


def disk_error(path: Path, error: OSError) -> ArtifactError:
    """What the system says of a failed write, with the way out."""
    full = error.errno in _FULL
    way_out = f"{'free space' if full else 'check its permissions'}, or choose another folder with HYCOMPILE_CACHE"
    return ArtifactError(f"{path}", f"cannot be written ({error.strerror or error})", way_out)


def target_parts(target: Mapping[str, object]) -> dict[str, object]:
    """What of a target shapes an artifact: not its description, sources or notes."""
    return {
        name: value
        for name, value in target.items()
        if name not in ("description", "sources", "quirks", "runtimes", "name", "pipeline")
    }
