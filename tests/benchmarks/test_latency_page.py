"""The latency benchmark's committed results, the records, and the page and charts made from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.latency.chart import draw
from benchmarks.latency.records import REFERENCE, RESULTS, TOLERANCE, Book, Cell, Prepared, Record, Timed, combine, load
from benchmarks.latency.render import render, write_page
from benchmarks.latency.rounds import paired_ratio
from benchmarks.latency.summary import NOT_MEASURED, against, by_model, goals
from hycompile.measure.conditions import read_conditions

CONDITIONS = read_conditions(1, 0.0, {"torch": "2.13.0"})


def test_results_are_consistent() -> None:
    """What is committed follows from its own samples; nothing that computes something else is timed."""
    for record in load(RESULTS):
        if record.status != "timed":
            assert record.reason, record.cell
            continue
        assert record.rel_err is not None, record.cell
        assert record.rel_err <= TOLERANCE, record.cell
        if record.base_wall_ms is not None and record.base_cpu_ms is not None:
            assert record.wall_ratio == pytest.approx(paired_ratio(record.wall_ms, record.base_wall_ms).value)
            assert record.cpu_ratio == pytest.approx(paired_ratio(record.cpu_ms, record.base_cpu_ms).value)


def test_readme_is_made_from_results() -> None:
    assert RESULTS.with_name("README.md").read_text(encoding="utf-8") == render(load(RESULTS)), "run it with --render"


def record(contender: str, **fields: object) -> Record:
    ratio = fields.get("wall_ratio")
    interval = None if ratio is None else (ratio, ratio)
    values = {"model": "levit_128", "contender": contender, "threads": 1, "status": "timed", "cpu_ratio": ratio}
    values |= {"wall_interval": interval, "cpu_interval": interval, "conditions": CONDITIONS, "rel_err": 1e-6}
    return Record.model_validate({**values, **fields})


RECORDS = [
    record("hycompile-executorch", wall_ratio=0.5, delegates=1, outside_ops=0, build_seconds=2.0, rel_err=2e-6),
    record("hycompile-onnx", wall_ratio=0.8),
    record("executorch", wall_ratio=2.0, build_seconds=8.0),
    record("onnxruntime", wall_ratio=1.0, gflops=50.0, peak_gflops=100.0),
    record("openvino", status="missing", reason="openvino not installed: pip install `x`", rel_err=None),
    record("litert", status="failed", reason="relative error 1e-3", wall_ratio=None, conditions=None),
    record("hycompile-executorch", model="shvit_s1", wall_ratio=2.0, delegates=4, outside_ops=7, build_seconds=4.0),
    record("executorch", model="shvit_s1", wall_ratio=2.0, build_seconds=4.0),
    record("torch-compile", model="shvit_s1", wall_ratio=0.5),
    record("onnxruntime", model="shvit_s1", wall_ratio=1.0),
]


def test_goals_stand_beside_what_was_measured() -> None:
    measured = {goal.text: goal.measured for goal in goals(by_model(RECORDS, 1))}
    assert measured == {
        "ExecuTorch artifacts in at most 3 delegates, no compute operator outside": "1 of 2 models; not shvit_s1",
        "hycompile-executorch over stock ExecuTorch, geomean": "0.5 (2 models)",
        "hycompile-executorch over stock ExecuTorch, slowest model": "1 (shvit_s1)",
        "hycompile-executorch over ONNX Runtime, geomean": "1 (2 models)",
        "hycompile-executorch over ONNX Runtime, slowest model": "2 (shvit_s1)",
        "our best over the best rival's, geomean": "1.41 (2 models)",
        "our best over the best rival's, slowest model": "4 (shvit_s1)",
        "hycompile-tvm over ONNX Runtime, geomean": NOT_MEASURED,
        "build time of hycompile-executorch over stock ExecuTorch's, geomean": "0.5 (2 models)",
        "relative error of our artifacts, largest": "2.0e-06 (hycompile-executorch on levit_128)",
    }


def test_nothing_is_made_up_without_results() -> None:
    page = render([])
    assert "Not measured yet" in page
    assert all(goal.measured == NOT_MEASURED for goal in goals({}))
    assert against({}, ["eager"], [REFERENCE]) is None


def test_page_and_chart_show_who_wins(tmp_path: Path) -> None:
    write_page(tmp_path, RECORDS)
    page = (tmp_path / "README.md").read_text()
    assert "Not measured yet" not in page
    row = "| levit_128 | **0.50** (0.50-0.50) | 0.80 (0.80-0.80) |  | 2.00 (2.00-2.00) | 1 | **missing** [1] |"
    assert row in page
    assert "\n1. `openvino not installed: pip install 'x'`\n2. `relative error 1e-3`\n" in page
    assert "| levit_128 | 100 |  |  |  |  | 50 (50 %) |" in page
    assert "hycompile-executorch over executorch, geomean: wall 0.50 (2)" in page
    assert "![who wins where, 1 thread](threads-1.svg)" in page
    chart = (tmp_path / "threads-1.svg").read_text()
    assert chart.count('stroke="black"') == 2
    assert "<title>hycompile-executorch 0.5</title>" in chart
    assert draw({}, 1) is None


def test_page_says_when_the_machine_was_shared() -> None:
    assert "1 of 1 sittings shared the machine" in render([record("eager", wall_ratio=1.0, others_cpus=0.5)])
    assert "shared the machine" not in render([record("eager", wall_ratio=1.0, others_cpus=0.01)])


def test_book_is_one_record_a_line_in_order(tmp_path: Path) -> None:
    path, book = tmp_path / "results.json", Book(tmp_path / "results.json")
    for one in reversed(RECORDS):
        book.change(one.cell, lambda known, one=one: one)
    assert len(path.read_text().splitlines()) == len(RECORDS) + 2
    assert [(one.model, one.contender) for one in load(path)][:3] == [
        ("levit_128", "hycompile-executorch"),
        ("levit_128", "hycompile-onnx"),
        ("levit_128", "executorch"),
    ]
    assert Book(path).records == {one.cell: one for one in RECORDS}


def test_worst_error_of_building_and_timing_is_kept() -> None:
    cell = Cell("levit_128", "hycompile-onnx", 1)
    prepared = Prepared(status="ready", rel_err=3e-6, build_seconds=1.0)
    both = combine(cell, prepared, Timed(status="timed", rel_err=1e-6), "normalise")
    assert (both.status, both.rel_err, both.build_seconds, both.pipeline) == ("timed", 3e-6, 1.0, "normalise")
    peer = combine(cell._replace(contender="eager"), Prepared(status="missing", reason="why"), None, "normalise")
    assert (peer.status, peer.reason, peer.pipeline) == ("missing", "why", None)
