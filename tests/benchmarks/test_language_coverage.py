"""The table of language models and targets: its committed results, the page made from them, and one model's way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.language.coverage.records import MODELS, PRECISION, RESULTS, TARGETS, Book, Cell, Outcome, Record, load
from benchmarks.language.coverage.render import render
from benchmarks.language.coverage.subject import Subject, attempt
from hycompile.program import Step
from hycompile.prove import TOLERANCE
from hycompile.script import checked
from tests.toy_sambay import INNER, SLOTS, STATE, WIDTH, toy

DECODES = 64


def test_results_cover_the_table() -> None:
    """Float32 with state as arguments at least where Core ML's float16 is too coarse: the conversion is right there."""
    known = {record.cell: record.status for record in load(RESULTS)}
    targets = [target for target in TARGETS if target != "coreml_arguments"]
    assert {Cell(model, target) for model in MODELS for target in targets} <= known.keys()
    for model in MODELS:
        if known[Cell(model, "coreml")] == "failed":
            assert known[Cell(model, "coreml_arguments")] == "proved"


def test_results_are_consistent() -> None:
    """What ran, ran along the whole script; and state is in every artifact as often as in the program."""
    for record in load(RESULTS):
        if record.status == "proved":
            assert record.rel_err is not None, record.cell
            assert record.rel_err <= TOLERANCE[PRECISION[record.target]], record.cell
            assert record.steps == 1 + DECODES, record.cell
        else:
            assert record.reason, record.cell
        if record.state_bytes is not None:
            assert record.state_bytes * (2 if record.target == "coreml" else 1) == record.program_state_bytes


def test_readme_is_made_from_results() -> None:
    assert RESULTS.with_name("README.md").read_text(encoding="utf-8") == render(load(RESULTS)), "run it with --render"


def _record(target: str, **fields: object) -> Record:
    return Record.model_validate({"model": "language/toy", "target": target, **fields})


def test_page_shows_every_status() -> None:
    sizes = {"program_state_bytes": 4096, "state_bytes": 4096, "weight_bytes": 1234}
    page = render(
        [
            _record("executorch", status="proved", rel_err=1.2e-6, outside=7, **sizes),
            _record("onnx", status="refused", reason="operator `aten.x`:\nno kernel"),
            _record("coreml", status="failed", reason="differs"),
            _record("tensorrt_rtx", status="built", reason="no GPU", tools={"torch": "2.13.0"}),
            _record("linalg", status="emitted", reason="text"),
        ]
    )
    assert "| language/toy | 1.2e-06 | **refused** [1] | **failed** [2] |  |  | built | emitted |" in page
    assert "| language/toy | 4,096 | 4,096 |  |  |  |  |  |" in page
    assert "| language/toy |  | 1,234 |  |  |  |  | 7 |" in page
    assert "\n1. `operator 'aten.x': no kernel`\n2. `differs`\n" in page
    assert "Made with torch 2.13.0." in page


def test_book_continues_where_it_stopped(tmp_path: Path) -> None:
    first, other = Cell(MODELS[1], "onnx"), Cell(MODELS[0], "tvm")
    Book(tmp_path / "results.json").put(first, Outcome(status="refused", reason="why"))
    again = Book(tmp_path / "results.json")
    again.put(other, Outcome(status="proved", rel_err=1e-7))
    assert [record.cell for record in load(tmp_path / "results.json")] == [other, first]


@pytest.fixture(scope="module")
def subject() -> Subject:
    program = toy(own_caches=True)
    prefill = Step("prefill", program.methods["prefill"].flat_inputs())
    decodes = [Step("decode", (torch.tensor([[token]]), torch.tensor([4 + token]))) for token in range(3)]
    made = Subject("toy")
    made.__dict__["original"] = replace(program, script=checked([prefill, *decodes], program.methods))
    return made


def test_a_model_is_built_and_proved(subject: Subject) -> None:
    found = attempt(subject, "onnx")
    assert (found.status, found.steps, found.reason) == ("proved", 4, "")
    assert found.state_bytes == found.program_state_bytes == 4 * (INNER * STATE + 2 * SLOTS * WIDTH)
    assert found.weight_bytes is not None
    assert found.tools["torch"].startswith("2.")


def test_a_model_is_emitted(subject: Subject) -> None:
    assert attempt(subject, "linalg").status == "emitted"


def test_what_a_target_refuses_is_its_reason(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRECISION, "coreml", "fp32")
    found = attempt(subject, "coreml")
    assert found.status == "refused"
    assert "Core ML state is float16" in found.reason
