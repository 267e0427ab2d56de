"""The coverage benchmark: its committed results, the page made from them, and the machinery that makes both."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.coverage.records import BACKENDS, RESULTS, Book, Cell, Outcome, Record, load
from benchmarks.coverage.render import render
from benchmarks.coverage.run import main, plan
from benchmarks.coverage.worker import JOB, Attempt
from benchmarks.exports import one_line
from benchmarks.messages import Job
from benchmarks.models import MODELS
from benchmarks.supervise import attempt_all

LIMITS = {"fp32": 1e-4, "fp16": 2e-2}


def test_results_cover_the_list() -> None:
    """Every model on every backend in float32; float16 and the stock column grow with every run."""
    assert len(MODELS) == 20
    wanted = {Cell(model, backend, "fp32") for model in MODELS for backend in BACKENDS}
    assert wanted <= {record.cell for record in load(RESULTS)}


def test_results_are_consistent() -> None:
    for record in load(RESULTS):
        if record.status == "proved":
            assert record.rel_err is not None, record.cell
            assert record.rel_err <= LIMITS[record.precision], record.cell
        else:
            assert record.reason, record.cell
        if record.batch_norms_left:
            assert record.batch_norms_reason, record.cell


def test_readme_is_made_from_results() -> None:
    assert RESULTS.with_name("README.md").read_text(encoding="utf-8") == render(load(RESULTS)), "run it with --render"


def record(backend: str, **fields: object) -> Record:
    values = {"model": "levit_128", "backend": backend, "precision": "fp32", "batch_norms_left": 0, **fields}
    return Record.model_validate(values)


def test_page_shows_every_status() -> None:
    reason = "operator `aten.x`:\nno kernel"
    page = render(
        [
            record("executorch", status="refused", reason=reason, stock_status="refused", stock_reason=reason),
            record("onnx", status="proved", rel_err=1.2e-6, stock_status="failed", stock_reason="differs"),
            record("tvm", status="built", reason="no such CPU", tools={"torch": "2.13.0"}),
        ]
    )
    assert "| levit_128 | 0 | **refused** [1] | **refused** [1] | 1.2e-06 | **failed** [2] |  |  | built |  |" in page
    assert "\n1. `operator 'aten.x': no kernel`\n2. `differs`\n" in page
    assert "3 cells: 1 proved, 1 built, 1 refused. Stock: 1 refused, 1 failed." in page
    assert "Made with torch 2.13.0." in page


def test_page_says_why_batch_norms_are_left() -> None:
    page = render(
        [record("onnx", status="proved", rel_err=0.0, batch_norms_left=2, batch_norms_reason="rule r: two users")]
    )
    assert "| levit_128 | 2 [1] |" in page
    assert "\n1. `rule r: two users`\n" in page


def test_book_continues_where_it_stopped(tmp_path: Path) -> None:
    cell, other = Cell("levit_128", "onnx", "fp32"), Cell("levit_128", "executorch", "fp32")
    path = tmp_path / "results.json"
    book = Book(path)
    book.put(cell, Outcome(status="refused", reason="why"))
    book.put_stock(cell, Outcome(status="proved", rel_err=1e-6, seconds=2.0))
    book.put(other, Outcome(status="proved", rel_err=1e-7))
    again = Book(path)
    again.put(cell, Outcome(status="proved", rel_err=1e-7))
    first, second = load(path)
    assert (first.cell, second.cell) == (other, cell)
    assert (second.status, second.rel_err, second.stock_status, second.stock_seconds) == ("proved", 1e-7, "proved", 2.0)
    assert plan(Book(path), [cell, other], stock=True) == [Attempt(other, stock=True)]
    assert plan(Book(path), [cell, other], stock=False) == []
    again.drop([cell])
    assert plan(again, [cell], stock=True) == [Attempt(cell, stock=False), Attempt(cell, stock=True)]


WORKER = """
import json, os, signal, sys, time
pipe = os.fdopen(int(sys.argv[1]), "w")
for text in sys.argv[2:]:
    print(json.dumps({"begun": text}), file=pipe, flush=True)
    backend = json.loads(text)[1]
    if backend == "executorch":
        os.kill(os.getpid(), signal.SIGSEGV)
    if backend == "coreml":
        time.sleep(60)
    if backend == "tvm":
        raise RuntimeError("out of registers")
    print(json.dumps({"done": {"status": "proved", "rel_err": 0.5}}), file=pipe, flush=True)
"""


class Crashing(Job[Attempt, Outcome]):
    def command(self, attempts: Sequence[Attempt], descriptor: int) -> list[str]:
        return [sys.executable, "-c", WORKER, str(descriptor), *(self.encode(item) for item in attempts)]


def test_crash_hang_and_error_cost_one_attempt_each() -> None:
    kept: dict[str, Outcome] = {}

    def keep(attempt: Attempt, outcome: Outcome, seconds: float) -> None:
        kept[attempt.cell.backend] = outcome

    attempts = [Attempt(Cell("model", backend, "fp32"), stock=False) for backend in BACKENDS]
    attempt_all(Crashing(*vars(JOB).values()), attempts, keep, limit_s=3.0, threads=1)
    assert {backend: outcome.status for backend, outcome in kept.items()} == {
        "executorch": "failed",
        "onnx": "proved",
        "coreml": "failed",
        "tvm": "failed",
        "tensorrt_rtx": "proved",
    }
    assert kept["executorch"].reason == "the process was ended by SIGSEGV"
    assert kept["coreml"].reason == "took more than 3 s and was ended"
    assert kept["tvm"].reason == "the process ended with exit code 1; its last words: RuntimeError: out of registers"


TOY = """
import torch
from torch import nn


def make():
    torch.manual_seed(0)
    toy = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Hardswish(), nn.Flatten(), nn.Linear(4 * 36, 5))
    nn.init.uniform_(toy[1].running_var, 0.5, 1.5)
    return toy.eval(), (torch.randn(1, 3, 8, 8),)
"""


def test_one_model_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "coverage_toy.py").write_text(TOY)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    results = tmp_path / "results.json"
    chosen = ["--models", "coverage_toy:make", "--backends", "onnx", "--precisions", "fp32", "--results", str(results)]
    main(chosen)
    (found,) = load(results)
    assert (found.status, found.stock_status, found.batch_norms_left) == ("proved", "proved", 0), found
    assert found.rel_err is not None
    assert found.rel_err < 1e-5
    assert found.tools["torch"].startswith("2.")
    assert "| coverage_toy:make | 0 |" in (tmp_path / "README.md").read_text()
    before = results.stat().st_mtime_ns
    main(chosen)
    assert results.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("", "ValueError: no message"),
        ("\n  first\nsecond", "ValueError: first"),
        (
            "no passes: /home/me/.venv/lib/timm/mobilevit.py:400:0: error",
            "ValueError: no passes: mobilevit.py:400:0: error",
        ),
        ("1/2 of a/b, see https://a.b/c/d", "ValueError: 1/2 of a/b, see https://a.b/c/d"),
    ],
)
def test_reasons_name_files_but_no_folders(message: str, line: str) -> None:
    assert one_line(ValueError(message)) == line
