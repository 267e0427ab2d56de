"""``build``, ``measure``, ``explain`` and ``emit`` on a toy hybrid."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hycompile import registry
from hycompile.artifact import Artifact
from hycompile.errors import Unsupported

Cli = Callable[..., Any]


@pytest.fixture
def built(cli: Cli, toy: str, tmp_path: Path) -> Any:
    """A build for one runtime, with its one JSON document."""
    arguments = ("--device", "host", "--runtime", "onnx", "--out", str(tmp_path / "out"), "--json")
    ran = cli("build", toy, *arguments)
    assert ran.code == 0, ran.err
    return ran


def test_build_prints_one_document_with_parity_samples_and_paths(built: Any, tmp_path: Path) -> None:
    document = built.document
    (result,) = document["runtimes"]
    assert (result["runtime"], result["status"]) == ("onnx", "proved")
    assert 0 <= result["rel_err"] < 1e-4
    assert len(result["latency"]["samples_ms"]) >= 10
    assert result["ratio"]["second"] == "eager PyTorch"
    assert result["profile"][0].keys() == {"operator", "calls", "ms"}
    assert Path(document["report"]) == tmp_path / "out" / "report.html"
    assert "onnx" in Path(document["report"]).read_text()
    artifact = Artifact.load(Path(result["artifact"]))
    assert artifact.folder == tmp_path / "out" / "onnx"
    rules = [rule for step in document["pipeline"]["passes"] for rule in step["rules"]]
    assert sum(rule["hits"] for rule in rules if "batch_norm" in rule["rule"]) == 1
    assert "onnx: lowering" in built.err.splitlines()


def test_text_of_a_build(cli: Cli, toy: str) -> None:
    ran = cli("build", toy, "--device", "host", "--runtime", "onnx", "--no-measure", "--pipeline", "fold-batch-norm")
    assert ran.code == 0
    assert "1 hits  0 refused  err" in ran.out
    assert "1 runtime: 1 proved" in ran.out
    assert Path("hycompile-out/make-host/report.html").is_file()
    assert Path("hycompile-out/make-host/onnx/manifest.json").is_file()


def test_a_runtime_that_refuses_fails_the_build_only_when_asked_for(
    cli: Cli, toy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise Unsupported("operator aten.foo", "has no translation", "replace it")

    monkeypatch.setattr(type(registry.backend("onnx")), "lower", refuse)
    ran = cli("build", toy, "--device", "host", "--runtime", "onnx", "--no-measure", "--json")
    assert ran.code == 6
    assert ran.document["runtimes"][0]["status"] == "refused"
    assert ran.err.splitlines()[-1].startswith("error: runtime 'onnx': operator aten.foo: has no translation")


def test_measure_and_compare(cli: Cli, built: Any) -> None:
    artifact = built.document["runtimes"][0]["artifact"]
    quick = ("--runs", "8", "--seconds", "0.5")
    document = cli("measure", artifact, *quick, "--json").document
    assert len(document["samples_ms"]) >= 8
    assert document["conditions"]["threads"] == 1
    assert "95 % interval" in cli("measure", artifact, *quick).out
    ratio = cli("measure", artifact, "--against", artifact, *quick, "--json").document
    assert ratio["interval"][0] <= ratio["ratio"] <= ratio["interval"][1]
    assert 0.2 < ratio["ratio"] < 5
    refused = cli("measure", artifact, "--device", "pixel-9")
    assert refused.code == 6
    assert "built, not run" in refused.err


def test_measure_knows_its_methods(cli: Cli, built: Any) -> None:
    ran = cli("measure", built.document["runtimes"][0]["artifact"], "--method", "decode")
    assert ran.code == 8
    assert "give one of: forward" in ran.err


def test_explain_shows_before_and_after(cli: Cli, toy: str) -> None:
    document = cli("explain", "fold-batch-norm", "--model", toy, "--json").document
    assert sum(rule["hits"] for rule in document["rules"]) == 1
    assert "batch_norm" in document["before"]
    assert "aten.batch_norm" not in document["after"]
    removed = [line for line in document["diff"].splitlines() if line.startswith("-%")]
    assert any("aten.batch_norm" in line for line in removed)
    text = cli("explain", "fold-batch-norm", "--model", toy).out
    assert "1 hits, 0 refused" in text
    assert all(line in text for line in removed)


def test_explain_one_rule(cli: Cli, toy: str) -> None:
    name = next(rule["name"] for rule in cli("passes", "fold-batch-norm", "--json").document["rules"])
    document = cli("explain", "fold-batch-norm", "--model", toy, "--rule", name, "--json").document
    assert [rule["rule"] for rule in document["rules"]] == [name]
    unknown = cli("explain", "fold-batch-norm", "--model", toy, "--rule", "no_rule")
    assert unknown.code == 4
    assert name in unknown.err


def test_emit(cli: Cli, toy: str, tmp_path: Path) -> None:
    pytest.importorskip("torch_mlir")
    path = tmp_path / "toy.mlir"
    document = json.loads(cli("emit", toy, "--to", "linalg", "-o", str(path), "--json").out)
    assert document["file"] == str(path)
    assert "linalg." in path.read_text()
    assert "batch_norm" not in path.read_text()
    assert "func.func" in cli("emit", toy, "--to", "torch").out


def test_a_recipe_is_tuned_and_replayed(cli: Cli, toy: str, tmp_path: Path) -> None:
    arguments = ("--device", "host", "--runtime", "onnx", "--runs", "6", "--seconds", "0.5")
    ran = cli("tune", toy, *arguments)
    assert ran.code == 0, ran.err
    path = tmp_path / "make-host-onnx.toml"
    assert f"hycompile build {toy} --device host --recipe {path.name}" in ran.out
    assert "onnx.opset" in ran.out
    document = cli("tune", toy, *arguments, "--out", "other.toml", "--json").document
    assert (document["runtime"], document["recipe"]) == ("onnx", str(tmp_path / "other.toml"))
    built = cli("build", toy, "--device", "host", "--recipe", str(path), "--no-measure", "--json")
    assert built.code == 0, built.err
    assert [row["runtime"] for row in built.document["runtimes"]] == ["onnx"]


def test_a_recipe_with_what_it_says_itself_is_wrong_usage(cli: Cli, toy: str) -> None:
    ran = cli("build", toy, "--device", "host", "--recipe", "any.toml", "--runtime", "onnx")
    assert ran.code == 2
    assert "--recipe: it says runtime, passes and precision itself" in ran.err
