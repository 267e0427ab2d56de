"""Tokenizers from files: what is certain is shown at once, and what is no tokenizer is refused in one line."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hycompile.errors import ArtifactError
from hycompile.generation import tokenizer as module
from hycompile.generation.tokenizer import Tokenizer
from tests.generation.tiny import END, tokenizer

HONEST = tokenizer().to_str()


def opened() -> Tokenizer:
    return Tokenizer(HONEST.encode(), "honest")


def test_characters_come_whole() -> None:
    text, found = "é — 日🙂!", opened()
    stream = found.stream([])
    pieces = [stream.push(token) for token in found.encode(text)]
    assert [piece for piece in pieces if piece] == list(text)
    assert stream.rest() == ""
    assert len(pieces) == len(text.encode())


def test_half_a_character_is_told_at_the_end() -> None:
    stream, tokens = opened().stream([]), opened().encode("a🙂")
    assert [stream.push(token) for token in tokens[:-1]] == ["a", "", "", ""]
    assert stream.rest() == "\N{REPLACEMENT CHARACTER}"
    assert stream.rest() == ""


@settings(max_examples=100, deadline=None)
@given(tokens=st.lists(st.integers(0, 256), max_size=30), before=st.text(max_size=5))
def test_pieces_are_the_text(tokens: list[int], before: str) -> None:
    found = opened()
    stream = found.stream(found.encode(before))
    assert "".join(stream.push(token) for token in tokens) + stream.rest() == found.decode(tokens)


def test_special_tokens_are_no_text() -> None:
    found = opened()
    assert found.special == {0}
    assert found.encode(f"a{END}")[-1] == 0
    assert found.decode(found.encode(f"a{END}b")) == "ab"


def test_truncation_and_padding_of_training_are_left_out() -> None:
    trained = tokenizer()
    trained.enable_truncation(3)
    trained.enable_padding(length=8)
    assert len(Tokenizer(trained.to_str().encode(), "trained").encode("abcde")) == 5


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff\xfe", b"[" * 100_000, HONEST.encode()[:-50]])
def test_no_tokenizer(data: bytes) -> None:
    with pytest.raises(ArtifactError, match=r"^here: not a tokenizer \(.*\); give a tokenizer.json"):
        Tokenizer(data, "here")


def _places(value: Any) -> list[tuple[Any, Any]]:
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    return [(value, key) for key in keys] + [place for key in keys for place in _places(value[key])]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(data=st.data())
def test_damage_is_read_or_refused(data: st.DataObject) -> None:
    document = json.loads(HONEST)
    container, key = data.draw(st.sampled_from([place for place in _places(document) if len(str(place[1])) > 2]))
    container[key] = data.draw(st.sampled_from([None, -1, 2**40, "x", "(", [], {}, True]))
    with contextlib.suppress(ArtifactError):
        found = Tokenizer(json.dumps(document).encode(), "damaged")
        found.decode(found.encode("In the beginning é"))


def test_unreadable_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArtifactError, match=r"nowhere: cannot be read \(No such file or directory\)"):
        Tokenizer.read(tmp_path / "nowhere")
    with pytest.raises(ArtifactError, match=r"cannot be read \(Is a directory\)"):
        Tokenizer.read(tmp_path)
    (tmp_path / "large.json").write_text(HONEST)
    monkeypatch.setattr(module, "LIMIT_BYTES", 100)
    with pytest.raises(ArtifactError, match="more than 100 bytes"):
        Tokenizer.read(tmp_path / "large.json")
