"""Files that are broken by accident: read as far as they are whole, or refused in one line."""

from __future__ import annotations

import json
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hycompile.capture import capture
from hycompile.errors import CaptureError
from tests.core.archives import NO_PROGRAM, Members, refused, write


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_truncated(tmp_path: Path, members: Members, part: float) -> None:
    data = write(tmp_path / "net.pt2", members).read_bytes()
    (tmp_path / "net.pt2").write_bytes(data[: int(len(data) * part)])
    reason = refused(tmp_path / "net.pt2").reason
    # Past the sample inputs, which are an archive themselves, the rest looks like that archive.
    assert reason.startswith("not a readable archive") or reason == NO_PROGRAM


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"graph_module": 3}', b"\xff\xfe", b"[" * 100_000])
def test_broken_model(tmp_path: Path, members: Members, content: bytes) -> None:
    (model,) = (name for name in members if name.endswith("model.json"))
    refused(write(tmp_path / "net.pt2", members | {model: content}))


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every container of a document with each of its keys or indices."""
    if isinstance(value, dict):
        found = [(value, key) for key in value]
    else:
        found = [(value, index) for index in range(len(value))] if isinstance(value, list) else []
    return found + [place for container, key in found for place in _places(container[key])]


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_random_damage_is_read_or_refused(tmp_path: Path, members: Members, data: st.DataObject) -> None:
    """One value of one document gone or replaced: a Program or a CaptureError, never a traceback."""
    documents = [name for name in members if name.endswith(".json")]
    name = data.draw(st.sampled_from(documents))
    document = json.loads(members[name])
    container, key = data.draw(st.sampled_from(_places(document)))
    replacement = data.draw(st.sampled_from([None, 0, -1, "x", [], {}, {"as_int": 3}, "gone"]))
    if replacement == "gone":
        del container[key]
    else:
        container[key] = replacement
    path = write(tmp_path / "net.pt2", members | {name: json.dumps(document).encode()})
    with suppress(CaptureError), warnings.catch_warnings():
        # What torch says of a weight whose gradient flag was damaged is not the point here.
        warnings.simplefilter("ignore")
        capture(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    assert refused(tmp_path / "absent.pt2").reason == "no such file"
    assert refused(tmp_path).reason == "is a folder"
