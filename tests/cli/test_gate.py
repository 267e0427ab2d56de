"""``hycompile build --evaluate --max-drop``: the budget is met, or nothing is written."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hycompile as hy

Cli = Callable[..., Any]
_HOST = ("--device", "host", "--runtime", "onnx", "--no-measure")
_PASSES = ("--pipeline", "fold-batch-norm,quantise")

# Scores by how near the outputs are to those of the first model it is given, the float one.
SCORES = '''
import torch

known = []


def inputs():
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(1, 3, 16, 16, generator=generator) for _ in range(6)]


def near(run):
    """100 less the error in percent of the largest output."""
    found = torch.stack([run(x)[0] for x in inputs()])
    known.append(found)
    return 100 - 100 * float((found - known[0]).abs().max() / known[0].abs().max())


def spoilt_artifact(run):
    return near(run) - (50 if len(known) == 3 else 0)


def raises(run):
    raise RuntimeError("labels.csv is\\nnot there")


def raises_on_the_artifact(run):
    near(run)
    return {}["labels"] if len(known) == 3 else 90.0


def nan(run):
    return float("nan")


number = 7
'''


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy: str) -> Path:
    """A folder with calibration samples, and the evaluation functions on the path."""
    (tmp_path / "scores.py").write_text(SCORES)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "scores", raising=False)
    folder, generator = tmp_path / "samples", np.random.default_rng(0)
    folder.mkdir()
    for number in range(8):
        np.save(folder / f"{number}.npy", generator.standard_normal((1, 3, 16, 16)).astype(np.float32))
    return tmp_path


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A cache for several tests: the artifact of one pipeline is made once."""
    return "--cache", str(tmp_path_factory.mktemp("shared"))


def _build(cli: Cli, *more: str) -> Any:
    return cli("build", "toy_hybrid:make", *_HOST, *_PASSES, "--calibration", "samples", *more)


def _text(ran: Any) -> str:
    return " ".join(ran.err.split())


def _nothing_built(work: Path) -> bool:
    return not list(work.rglob("model.onnx")) and not list(work.rglob("manifest.json"))


def test_budget_met(cli: Cli, work: Path, shared: tuple[str, str]) -> None:
    ran = _build(cli, *shared, "--evaluate", "scores:near", "--max-drop", "5", "--json")
    assert ran.code == 0, ran.err
    told, (row,) = ran.document["evaluation"], ran.document["runtimes"]
    assert (told["function"], told["original"], told["max_drop"]) == ("scores:near", 100.0, 5.0)
    assert 95 <= told["simulation"] < 100
    assert row["score"] == pytest.approx(told["simulation"], abs=0.2)
    assert row["status"] == "proved"
    sensitivity = ran.document["quantisation"]["sensitivity"]
    assert sensitivity["calls"] == 4
    assert [layer[1] for layer in sensitivity["layers"]] == ["conv2d_default", "linear", "linear_1"]
    page = Path(ran.document["report"]).read_text()
    assert "<svg" in page
    assert "scores:near: float model 100.00" in page


def test_budget_missed_by_the_quantised_model(cli: Cli, work: Path) -> None:
    """Nothing is lowered; the report is written, with the picture of the layers to blame."""
    ran = _build(cli, "--evaluate", "scores:near", "--max-drop", "0.001")
    assert ran.code == 5
    told = _text(ran)
    assert "the quantised model: scores 9" in told
    assert "below the float model's 100.00, allowed 0.00; layers to blame: " in told
    assert "dB if it alone is rounded" in told
    assert _nothing_built(work)
    assert "<svg" in (work / "hycompile-out" / "make-host" / "report.html").read_text()


def test_budget_missed_by_the_artifact_alone(cli: Cli, work: Path, shared: tuple[str, str]) -> None:
    ran = _build(cli, *shared, "--evaluate", "scores:spoilt_artifact", "--max-drop", "20", "--json")
    assert ran.code == 5
    (row,) = ran.document["runtimes"]
    assert (row["status"], row["artifact"]) == ("failed", None)
    assert row["reason"].startswith("the onnx artifact: scores 4")
    assert not list((work / "hycompile-out").rglob("model.onnx"))


def test_layers_are_kept_until_the_budget_holds(cli: Cli, work: Path) -> None:
    held = _build(
        cli,
        "--pipeline",
        "fold-batch-norm,quantise{bits=3,min_sqnr=-20.0}",
        "--evaluate",
        "scores:near",
        "--max-drop",
        "10",
        "--keep",
        "auto",
        "--json",
    )
    assert held.code == 0, held.err
    assert held.document["pipeline"]["pipeline"].endswith("quantise{bits=3,min_sqnr=-20.0,keep=auto}")
    kept = [layer for layer in held.document["quantisation"]["sensitivity"]["layers"] if layer[4] == "float"]
    assert kept
    assert held.document["evaluation"]["simulation"] >= 90


def test_named_layers_are_added_to_those_of_the_pipeline(work: Path) -> None:
    pipeline = "normalise,quantise{keep=stem,bits=6}"
    request = hy.Request("x", pipeline=pipeline, calibration=work / "samples", keep=("linear", "head.*"))
    assert request.target().pipeline == 'normalise,quantise{bits=6,keep="stem,linear,head.*"}'


def test_a_float_build_is_scored_too(cli: Cli, work: Path) -> None:
    score = ("--pipeline", "fold-batch-norm", "--evaluate", "scores:near", "--max-drop", "0.1")
    ran = cli("build", "toy_hybrid:make", *_HOST, *score)
    assert ran.code == 0, ran.err
    assert "scores:near: float model 100.00, onnx 100.00; allowed drop 0.10" in " ".join(ran.out.split())


@pytest.mark.parametrize(
    ("function", "told"),
    [
        ("nowhere:top1", "evaluation function 'nowhere:top1': cannot be imported (ModuleNotFoundError"),
        ("scores:top5", "cannot be imported (AttributeError: module 'scores' has no attribute 'top5'"),
        ("scores:number", "is a int, no function"),
        ("scores:raises", "on the float model: raised RuntimeError: labels.csv is not there (scores.py:24 in raises)"),
        ("scores:raises_on_the_artifact", "on the onnx artifact: raised KeyError: 'labels' (scores.py:"),
        ("scores:nan", "on the float model: returned nan; return a finite number"),
    ],
)
def test_evaluation_that_fails(cli: Cli, work: Path, shared: tuple[str, str], function: str, told: str) -> None:
    ran = _build(cli, *shared, "--evaluate", function, "--max-drop", "50", "--json")
    assert ran.code == 9
    assert told in _text(ran)
    assert ran.document["error"]["kind"] == "EvaluationError"
    assert not (work / "hycompile-out").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--max-drop", "0.5"), "max_drop 0.5: has nothing to measure by; give a number from 0 on, and --evaluate"),
        (("--max-drop", "-1", "--evaluate", "scores:near"), "max_drop -1: is no budget"),
        (("--max-drop", "nan", "--evaluate", "scores:near"), "max_drop nan: is no budget"),
    ],
)
def test_budget_that_is_none(cli: Cli, work: Path, arguments: tuple[str, ...], told: str) -> None:
    ran = _build(cli, *arguments)
    assert ran.code == 9
    assert told in _text(ran)


def test_layers_to_keep_where_nothing_is_quantised(cli: Cli, toy: str) -> None:
    ran = cli("build", toy, "--device", "host", "--runtime", "onnx", "--no-measure", "--keep", "linear")
    assert ran.code == 4
    assert "--keep linear: nothing is quantised at fp32; add --precision int8" in _text(ran)
