"""``hycompile generate``: text on stdout as it comes, times on stderr, one document with ``--json``."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hycompile.artifact import MANIFEST, TOKENIZER
from hycompile.backends.onnx import Onnx
from hycompile.cache import Cache
from hycompile.files import copy_folder
from hycompile.generation import Generator, Sampling
from hycompile.lowering import lower
from tests.generation.tiny import program, tokenizer

Cli = Callable[..., Any]
PROMPT = "In the beginning"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lower(program(), "host", "onnx", cache=Cache(tmp_path_factory.mktemp("cache"))).folder


@pytest.fixture
def artifact(built: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    copy_folder(built, tmp_path / "artifact")
    return tmp_path / "artifact"


def expected(prompt: str = PROMPT, count: int = 12, sampling: Sampling | None = None) -> tuple[str, list[int]]:
    found = Generator.eager(program()).generate(prompt, max_tokens=count, sampling=sampling)
    return "".join(found), found.tokens


def test_text(cli: Cli, built: Path) -> None:
    ran = cli("generate", str(built), "--prompt", PROMPT, "--max-tokens", "12")
    assert ran.code == 0
    assert ran.out == expected()[0] + "\n"
    last = ran.err.splitlines()[-1]
    assert last.startswith("16 tokens of prompt in 0.")
    assert last.endswith(" tokens/s (onnx, 1 threads, ended by length)")


def test_document(cli: Cli, built: Path) -> None:
    ran = cli("generate", str(built), "--prompt", PROMPT, "--max-tokens", "12", "--json")
    document, (text, tokens) = ran.document, expected()
    assert (document["text"], document["tokens"]) == (text, tokens)
    assert document["prompt_tokens"] == tokenizer().encode(PROMPT).ids
    assert document["ended_by"] == "length"
    assert document["prefill_seconds"] > 0
    assert document["tokens_per_second"] == pytest.approx(11 / sum(document["decode_seconds"]))


def test_draws(cli: Cli, built: Path) -> None:
    options = ("--temperature", "0.9", "--top-k", "50", "--top-p", "0.95", "--seed", "7", "--max-tokens", "12")
    ran = cli("generate", str(built), "--prompt", PROMPT, "--json", *options)
    assert ran.document["tokens"] == expected(sampling=Sampling(0.9, 50, 0.95, 7))[1]
    assert ran.document["tokens"] != expected()[1]


@pytest.mark.parametrize(("given", "read"), [(b"In th\xc3\xa9\n", "In thé"), (b"a\r\n", "a"), (b"a\n\n", "a\n")])
def test_prompt_from_stdin(cli: Cli, built: Path, monkeypatch: pytest.MonkeyPatch, given: bytes, read: str) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given)))
    ran = cli("generate", str(built), "--prompt", "-", "--max-tokens", "3", "--json")
    assert ran.document["prompt_tokens"] == tokenizer().encode(read).ids


def test_what_only_an_interpreter_runs_has_no_times(cli: Cli, built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Onnx, "measurable", False, raising=False)
    ran = cli("generate", str(built), "--prompt", PROMPT, "--max-tokens", "3")
    assert "not timed: onnx artifacts are interpreted here" in ran.err
    assert "tokens/s" not in ran.err
    document = cli("generate", str(built), "--prompt", PROMPT, "--max-tokens", "3", "--json").document
    assert document["prefill_seconds"] is document["decode_seconds"] is document["tokens_per_second"] is None


def _vanished(folder: Path) -> None:
    (folder / "prefill.onnx").unlink()


def _altered(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")


def _no_tokenizer(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["files"][TOKENIZER]
    (folder / MANIFEST).write_text(json.dumps(manifest))


def _other_methods(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["methods"] = {"forward": manifest["methods"]["prefill"]}
    (folder / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (_vanished, "prefill.onnx: missing or altered since it was built"),
        (_altered, "tokenizer.json: missing or altered since it was built"),
        (_no_tokenizer, "carries no tokenizer; give one: --tokenizer PATH"),
        (_other_methods, "not a language model: its methods are forward, not prefill and decode"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_damaged_artifacts(cli: Cli, artifact: Path, damage: Callable[[Path], None], part: str, as_json: bool) -> None:
    damage(artifact)
    ran = cli("generate", str(artifact), "--prompt", PROMPT, *(["--json"] if as_json else []))
    assert ran.code == 8
    (line,) = (line for line in ran.err.splitlines() if line.startswith("error: "))
    assert part in line
    assert ran.document["error"]["exit_code"] == 8 if as_json else ran.out == ""


@pytest.mark.parametrize(
    ("options", "code", "part"),
    [
        (["--prompt", ""], 6, "there is nothing to continue"),
        (["--prompt", "a", "--tokenizer", "nowhere.json"], 8, "nowhere.json: cannot be read"),
        (["--prompt", "a", "--top-k", "3"], 2, "give --temperature"),
        (["--prompt", "a", "--temperature", "1", "--top-p", "0"], 2, "0.0 is not a probability above 0"),
        (["--prompt", "a", "--temperature", "inf"], 2, "inf is no number to divide by"),
        (["--prompt", "a", "--temperature", "nan"], 2, "--temperature"),
        (["--prompt", "a", "--max-tokens", "0"], 2, "--max-tokens"),
        (["--prompt", "a\udcff"], 2, "is not UTF-8 at byte 1"),
        ([], 2, "Missing option '--prompt'"),
    ],
)
def test_wrong_options(cli: Cli, built: Path, options: list[str], code: int, part: str) -> None:
    ran = cli("generate", str(built), *options)
    assert ran.code == code
    (line,) = (line for line in ran.err.splitlines() if line.startswith("error: "))
    assert part in line
    assert ran.out == ""


def test_a_tokenizer_of_one_s_own(cli: Cli, artifact: Path, tmp_path: Path) -> None:
    _no_tokenizer(artifact)
    (tmp_path / "own.json").write_text(tokenizer().to_str())
    ran = cli("generate", str(artifact), "--prompt", PROMPT, "--max-tokens", "12", "--tokenizer", "own.json")
    assert ran.out == expected()[0] + "\n"
    (tmp_path / "own.json").write_text("{}")
    ran = cli("generate", str(artifact), "--prompt", PROMPT, "--tokenizer", "own.json")
    assert ran.code == 8
    assert ran.err.splitlines()[-1].startswith("error: own.json: not a tokenizer (Model missing")


def test_no_artifact(cli: Cli) -> None:
    ran = cli("generate", "nowhere", "--prompt", PROMPT)
    assert (ran.code, ran.err.splitlines()[-1]) == (
        8,
        "error: nowhere: holds no manifest.json; give the folder that `hycompile build` printed",
    )
