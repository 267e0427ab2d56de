"""The accuracy benchmark's table and page: what seeds come to, what is lost, and goals beside what was measured."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from benchmarks.accuracy.chart import draw
from benchmarks.accuracy.methods import METHODS, PARTS
from benchmarks.accuracy.records import FOLDER, RUNS, SIMULATION, Metric, Record, Score, load
from benchmarks.accuracy.render import render
from benchmarks.accuracy.rows import Row, dump, rows
from benchmarks.accuracy.summary import goals, tables


def record(
    method: str, seed: int, value: float, model: str = "one", runner: str = SIMULATION, metric: Metric = "top1"
) -> Record:
    reference = {"top1": 90.0 + seed, "cer": 1.0, "agreement": 100.0}[metric]
    score = Score(testbed="toy", metric=metric, reference=reference, value=value, samples=100)
    return Record(
        bed="toy",
        model=model,
        seed=seed,
        method=method,
        weight_bits=6,
        activation_bits=6,
        runner=runner,
        pipeline="quantise",
        calibration=8,
        images=0,
        code="x",
        status="measured",
        scores=(score,),
        quantise_seconds=3.0,
    )


RECORDS = [
    *(record("mse", seed, value) for seed, value in enumerate((88.0, 90.0, 92.0))),
    *(record("q-hyvit", seed, value) for seed, value in enumerate((89.5, 90.5, 91.5))),
    record("mse", 0, 89.0, "two"),
    record("q-hyvit", 0, 90.5, "two"),
    record("mse", 0, 1.5, metric="cer"),
    record("mse", 0, 99.0, runner="onnx", metric="agreement"),
    record("mse", 1, 99.9, runner="onnx", metric="agreement"),
]


def of(found: Sequence[Row], **names: object) -> Row:
    (row,) = [row for row in found if all(getattr(row, name) == value for name, value in names.items())]
    return row


def test_rows_are_over_seeds() -> None:
    row = of(rows(RECORDS), model="one", method="mse", metric="top1")
    assert (row.reference, row.mean, row.spread, row.loss) == (91.0, 90.0, pytest.approx(2.0), 1.0)
    assert (row.seeds, row.values, row.floats) == ((0, 1, 2), (88.0, 90.0, 92.0), (90.0, 91.0, 92.0))
    single = of(rows(RECORDS), model="two", method="q-hyvit")
    assert (single.spread, single.loss) == (None, -0.5)
    assert of(rows(RECORDS), metric="cer").loss == 0.5


def test_results_have_the_fields_they_are_read_by() -> None:
    first = json.loads(dump(rows(RECORDS)))[0]
    wanted = ("testbed", "model", "method", "weight_bits", "activation_bits", "metric", "float", "mean", "spread")
    assert set(wanted) | {"seeds", "runner"} <= set(first)
    assert dump([]) == "[]\n"


def test_goals_are_about_our_method_and_the_best_baseline() -> None:
    found = {goal.text: goal.measured for goal in goals(rows(RECORDS))}
    assert found["toy, W6A6: points of top1 lost"] == "q-hyvit: 0.00 in the mean, 0.50 at most (one)"
    assert found["toy, W6A6: q-hyvit beside the best baseline, mean"] == "0.00 beside 1.00 (mse)"
    assert found["toy: answers of onnx's artifacts that are the simulation's, least"] == "99.00 % (one, mse W6A6)"


def test_goals_tell_the_method_that_loses_least() -> None:
    found = goals(rows([*RECORDS, *(record("gptq", 0, 90.0, model) for model in ("one", "two"))]))
    ours, best = found[0].measured.split("; ")
    assert (ours, best) == (
        "q-hyvit: 0.00 in the mean, 0.50 at most (one)",
        "gptq: 0.00 in the mean, 0.00 at most (one)",
    )


def test_page() -> None:
    failed = record("mse", 2, 0.0, "two").model_copy(update={"status": "failed", "reason": "no `way`", "scores": ()})
    page = render([*RECORDS, failed, record("trial", 0, 80.0, "three")])
    assert "### toy: top1 in percent of 100, W6A6\n\n| network | float | mse | q-hyvit | trial |" in page
    assert "| one | 91.00 | 90.00 ± 2.00 | **90.50** ± 1.00 |  |" in page
    assert "| two | 90.00 | 89.00 | **90.50** |  |" in page
    assert "| lost, mean |  |  |  |  |" in page
    assert "| lost, most |  | 1.00 | 0.50 | 10.00 |" in page
    assert "- toy, two, seed 2, mse W6A6, simulation: `no 'way'`" in page
    assert f"| q-hyvit | `{METHODS['q-hyvit']}` | 3 |" in page
    assert "| trial | `quantise` | 3 |" in page


def test_parts_of_our_method_have_a_table_of_their_own() -> None:
    stages = [record(method, 0, 80.0 + at) for at, method in enumerate(PARTS)]
    assert "## Parts" not in render([*RECORDS, *stages[1:]])
    page = render([*RECORDS, *stages])
    main, parts = page.split("## Parts of q-hyvit")
    assert not any(method in main for method in PARTS)
    assert (
        "| network | float | q-hyvit-scale | q-hyvit-granularity | q-hyvit-scheme | q-hyvit-bridges | q-hyvit |"
        in parts
    )
    assert "| one | 91.00 | 80.00 | 81.00 | 82.00 | 83.00 | **90.50** ± 1.00 |" in parts
    assert "| two |" not in parts.partition("##")[0]


def test_chart_has_a_dot_for_every_loss() -> None:
    chart = draw(tables(rows(RECORDS)), "W6A6")
    assert chart.count('r="5"') == 2 + 5
    assert "<title>mse 1.00</title>" in chart


def test_readme_and_results_are_made_from_the_runs() -> None:
    records = load(FOLDER / RUNS)
    assert (FOLDER / "README.md").read_text(encoding="utf-8") == render(records), "run it with --render"
    assert (FOLDER / "results.json").read_text(encoding="utf-8") == dump(rows(records)), "run it with --render"
