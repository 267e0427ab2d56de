"""Writing: whole or not at all, on a disk that is full for real."""

from __future__ import annotations

import errno
import resource
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hycompile.files import copy_folder, write_text


@contextmanager
def largest_file(size: int) -> Generator[None]:
    """The kernel refuses every write beyond ``size`` bytes of a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_write_makes_folders_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.html"
    write_text(path, "one")
    write_text(path, "two")
    assert path.read_text() == "two"
    assert [item.name for item in path.parent.iterdir()] == ["b.html"]


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_text(path, "old")
    with largest_file(1000), pytest.raises(OSError) as caught:
        write_text(path, "x" * 100_000)
    assert caught.value.errno == errno.EFBIG
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["report.html"]


def artifact(folder: Path, size: int) -> Path:
    (folder / "model.mlpackage" / "Data").mkdir(parents=True)
    (folder / "model.mlpackage" / "Data" / "weights").write_bytes(b"w" * size)
    (folder / "manifest.json").write_text("{}")
    return folder


def test_copy_replaces_the_whole_folder(tmp_path: Path) -> None:
    source, destination = artifact(tmp_path / "source", 10), tmp_path / "out" / "coreml"
    destination.mkdir(parents=True)
    (destination / "stale").write_text("from an earlier build")
    copy_folder(source, destination)
    assert (destination / "model.mlpackage" / "Data" / "weights").read_bytes() == b"w" * 10
    assert not (destination / "stale").exists()
    assert [item.name for item in destination.parent.iterdir()] == ["coreml"]


def test_failed_copy_leaves_what_was_there(tmp_path: Path) -> None:
    source, destination = artifact(tmp_path / "source", 100_000), tmp_path / "out" / "coreml"
    destination.mkdir(parents=True)
    (destination / "manifest.json").write_text("old")
    with largest_file(1000), pytest.raises(OSError) as caught:
        copy_folder(source, destination)
    assert caught.value.errno == errno.EFBIG
    assert (destination / "manifest.json").read_text() == "old"
    assert [item.name for item in destination.parent.iterdir()] == ["coreml"]
