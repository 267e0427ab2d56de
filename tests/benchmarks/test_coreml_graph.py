"""The Core ML graph benchmark: what is counted, its committed results, and the page made from them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from benchmarks.coreml_graph.records import RESULTS, Counts, Record, count, load
from benchmarks.coreml_graph.render import render


def operation(kind: str, *shapes: tuple[int, ...]) -> Any:
    return SimpleNamespace(op_type=kind, outputs=[SimpleNamespace(shape=shape) for shape in shapes])


def counts(operators: int, transposes: int, moved_bytes: int) -> Counts:
    return Counts(operators=operators, transposes=transposes, reshapes=1, copies=0, moved_bytes=moved_bytes)


def test_counts() -> None:
    """Constants are no operators, reshapes move nothing, and a split writes every part."""
    function = SimpleNamespace(
        operations=[
            operation("const", (9,)),
            operation("conv", (1, 2, 3)),
            operation("transpose", (2, 3)),
            operation("expand_dims", (1, 6)),
            operation("split", (2,), (4,)),
        ]
    )
    found = count([function])
    assert (found.operators, found.transposes, found.reshapes, found.copies) == (4, 1, 1, 1)
    assert found.moves == 3
    assert found.moved_bytes == 2 * 4 * (6 + 2 + 4)


def test_page_shows_both_sides_and_reasons() -> None:
    records = [
        Record(model="one", stock=counts(10, 3, 2_000_000), ours=counts(5, 1, 500_000), ours_pipeline="normalise"),
        Record(model="two", stock_reason="no `alias`", ours=counts(7, 0, 0), ours_pipeline="normalise"),
    ]
    page = render(records)
    assert "| one | 10 | 5 | 0.50 | 4 (3 1 0) | 2 (1 1 0) | 0.50 | 2.0 | 0.5 | 0.25 |" in page
    assert "| two |  | 7 |  |  | 1 (0 1 0) |  |  | 0.0 |  |" in page
    assert "1 models with both sides. Operators: ours over stock 0.50 in geomean, no more than stock in 1 of 1." in page
    assert "- two, stock: `no 'alias'`" in page


def test_readme_is_made_from_results() -> None:
    records = load(RESULTS)
    assert records
    assert RESULTS.with_name("README.md").read_text(encoding="utf-8") == render(records), "run it with --render"
