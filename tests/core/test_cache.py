"""The artifact cache: hits, damage, a full disk, and keys that see every change."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from hycompile import cache as module
from hycompile.artifact import Artifact, Manifest, folder_digests
from hycompile.cache import Cache, key, sources_digest, target_parts
from hycompile.errors import ArtifactError
from hycompile.lowering import choose_target


def _write(cache: Cache, name: str, content: bytes = b"weights") -> Artifact:
    with cache.writing(name) as folder:
        (folder / "model.bin").write_bytes(content)
        manifest = Manifest(
            backend="test",
            target=choose_target("host"),
            program="p",
            program_digest="d",
            pipeline="normalise",
            methods={},
            files={"model": "model.bin"},
            digests=folder_digests(folder),
            seconds=0.1,
        )
        Artifact(folder, manifest).save_manifest()
    found = cache.artifact(name)
    assert found is not None
    return found


def _fail(cache: Cache, error: Exception) -> None:
    with cache.writing("a" * 64) as folder:
        (folder / "half").write_bytes(b"half")
        raise error


def _files(root: Path) -> list[str]:
    return sorted(path.name for path in root.rglob("*") if path.is_file())


def test_hit_and_miss(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert cache.artifact("a" * 64) is None
    built = _write(cache, "a" * 64)
    assert built.file("model").read_bytes() == b"weights"
    assert built.size_bytes == 7
    assert cache.artifact("b" * 64) is None
    assert _files(tmp_path) == ["manifest.json", "model.bin"]
    with pytest.raises(ArtifactError, match=r"no file with role 'graph' \(\['model'\]\); rebuild it"):
        built.file("graph")


@pytest.mark.parametrize("damage", ["altered", "missing", "manifest"])
def test_damaged_artifact_is_absent_and_can_be_rebuilt(tmp_path: Path, damage: str) -> None:
    cache = Cache(tmp_path)
    folder = _write(cache, "a" * 64).folder
    if damage == "altered":
        (folder / "model.bin").write_bytes(b"weightz")
    elif damage == "missing":
        (folder / "model.bin").unlink()
    else:
        (folder / "manifest.json").write_text("{")
    with pytest.raises(ArtifactError):
        Artifact.load(folder)
    assert cache.artifact("a" * 64) is None
    assert not folder.exists()
    assert _write(cache, "a" * 64).file("model").read_bytes() == b"weights"


def test_second_build_of_one_key_replaces_the_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    _write(cache, "a" * 64, b"one")
    assert _write(cache, "a" * 64, b"two").file("model").read_bytes() == b"two"
    assert _files(tmp_path) == ["manifest.json", "model.bin"]


def test_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with pytest.raises(ArtifactError) as caught:
        _fail(cache, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "half"))
    assert str(caught.value) == (
        f"{tmp_path}: cannot be written (No space left on device); "
        "free space, or choose another folder with HYCOMPILE_CACHE"
    )
    assert _files(tmp_path) == []
    assert not list(tmp_path.rglob(".building-*"))


def test_failed_build_leaves_nothing_behind(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with pytest.raises(ZeroDivisionError):
        _fail(cache, ZeroDivisionError())
    assert _files(tmp_path) == []
    assert cache.artifact("a" * 64) is None


def test_full_disk_while_a_report_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **keywords: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    cache = Cache(tmp_path)
    cache.store_report("a" * 64, "old")
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(ArtifactError, match="No space left on device"):
        cache.store_report("a" * 64, "new")
    assert cache.report("a" * 64) == "old"
    assert _files(tmp_path) == ["a" * 64 + ".json"]


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        ArtifactError, match=r"cannot be written \(Not a directory\); .*choose another folder with HYCOMPILE_CACHE"
    ):
        _write(Cache(tmp_path / "file" / "cache"), "a" * 64)


def test_key_sees_parts_tools_and_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = key(a=1, b="x")
    assert key(b="x", a=1) == plain
    keys = {plain, key(a=2, b="x")}
    monkeypatch.setattr(module, "tool_versions", lambda: {"torch": "0"})
    keys.add(key(a=1, b="x"))
    monkeypatch.setattr(module, "sources_digest", lambda: "other")
    keys.add(key(a=1, b="x"))
    assert len(keys) == 4


def test_sources_include_linked_folders_and_not_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Path] = []
    known = module.file_digest
    monkeypatch.setattr(module, "file_digest", lambda path: seen.append(path) or known(path))
    sources_digest.cache_clear()
    sources_digest()
    names = {path.name for path in seen}
    assert {"program.py", "reparameterise.py", "into_producer.py", "timm_hybrids.py", "host.toml"} <= names
    assert not [path for path in seen if "cli" in path.parts or "report" in path.parts]


def test_target_parts_are_what_shapes_an_artifact() -> None:
    host = choose_target("host")
    other = host.model_copy(update={"description": "another", "name": "other"})
    assert target_parts(host.model_dump()) == target_parts(other.model_dump())
    half = host.model_copy(update={"precision": "fp16"})
    assert target_parts(host.model_dump()) != target_parts(half.model_dump())
