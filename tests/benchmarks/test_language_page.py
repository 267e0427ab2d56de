"""The language benchmark's committed results, its plan, and the page and chart made from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.language.builds import Build
from benchmarks.language.chart import draw
from benchmarks.language.prepare import Prepared
from benchmarks.language.records import RESULTS, Book, Cell, Record, Timing, cell_of, combine, load
from benchmarks.language.render import BEGIN, END, insert, render, write_page
from benchmarks.language.sittings import COMPARISONS, FULL, QUICK, Entry, Scale, Sitting, sittings
from benchmarks.latency.rounds import paired_ratio

README = RESULTS.with_name("README.md")
READY = Prepared(status="ready", rel_err=1e-6, state_bytes=2_500_000, size_bytes=10, seconds=3.0)


def sitting(comparison: str, *contenders: str, models: tuple[str, ...] = ("language/sambay-40m",)) -> Sitting:
    entries = tuple(
        Entry(contender=name, build=Build(model=model, runtime="executorch", modes=("decode",), prompt=4, context=8))
        for model in models
        for name in contenders
    )
    return Sitting(comparison=comparison, mode="decode", context=512, threads=1, entries=entries)


def timing(entry: Entry, *wall_ms: float) -> Timing:
    cpu_ms = tuple(2 * value for value in wall_ms)
    return Timing(
        contender=entry.contender, model=entry.build.label, status="timed", executions=8, wall_ms=wall_ms, cpu_ms=cpu_ms
    )


def recorded(one: Sitting, *samples: tuple[float, ...]) -> list[Record]:
    timings = [timing(entry, *wall) for entry, wall in zip(one.entries, samples, strict=True)]
    return [combine(one, entry, READY, mine, timings[0]) for entry, mine in zip(one.entries, timings, strict=True)]


def test_results_are_consistent() -> None:
    """What is committed follows from its own samples, and says what it is a ratio to."""
    records = load(RESULTS)
    planned = {cell_of(one, entry) for one in sittings(FULL, (1, 2)) for entry in one.entries}
    assert {record.cell for record in records} <= planned
    by_cell = {record.cell: record for record in records}
    for record in records:
        if record.status != "timed":
            assert record.reason, record.cell
            continue
        assert record.rel_err is not None, record.cell
        assert record.state_bytes, record.cell
        other = {"model": record.reference} if record.comparison == "context" else {"contender": record.reference}
        base = by_cell[record.cell._replace(**other)]
        if base.wall_ms:
            assert record.wall_ratio == pytest.approx(paired_ratio(record.wall_ms, base.wall_ms).value)
            assert record.cpu_ratio == pytest.approx(paired_ratio(record.cpu_ms, base.cpu_ms).value)


def test_readme_is_made_from_results() -> None:
    page = README.read_text(encoding="utf-8")
    assert page == insert(page, render(load(RESULTS))), "run it with --render"


@pytest.mark.parametrize("scale", [FULL, QUICK], ids=["full", "quick"])
def test_every_cell_is_planned_once(scale: Scale) -> None:
    planned = sittings(scale, (1, 2))
    cells = [cell_of(one, entry) for one in planned for entry in one.entries]
    assert len(set(cells)) == len(cells)
    assert {one.comparison for one in planned} == set(COMPARISONS)
    assert all(one.mode in entry.build.modes for one in planned for entry in one.entries)


def test_builds_of_one_folder_are_the_same() -> None:
    builds = [entry.build for one in sittings(FULL, (1, 2)) for entry in one.entries]
    texts = {build.model_dump_json() for build in builds}
    assert len({build.folder for build in builds}) == len(texts) < len(builds)


def test_a_record_has_ratios_of_the_same_rounds() -> None:
    one = sitting("memory", "gmu", "mamba1")
    first, second = recorded(one, (10.0,) * 6, (8.0, 12.0, 20.0, 20.0, 30.0, 40.0))
    assert (first.reference, second.reference) == ("gmu", "gmu")
    assert first.wall_ratio == 1
    assert second.wall_ratio == 2
    assert second.tokens_per_second == 50
    assert (second.state_bytes, second.rel_err, second.build_seconds) == (2_500_000, 1e-6, 3.0)


def test_contenders_of_one_name_are_told_apart_by_model() -> None:
    one = sitting("context", "hycompile-executorch", models=(FULL.transformer, FULL.sambay))
    assert [record.reference for record in recorded(one, (1.0,) * 6, (0.5,) * 6)] == [FULL.transformer] * 2


def test_what_was_not_timed_says_why() -> None:
    one = sitting("peers", "llama.cpp", "onnxruntime")
    refused = combine(one, one.entries[0], Prepared(status="refused", reason="no such graph"), None, None)
    assert (refused.status, refused.reason, refused.tokens_per_second) == ("refused", "no such graph", None)
    half = READY.model_copy(update={"absent": {"decode": "cannot be exported"}})
    absent = combine(one, one.entries[1], half, None, None)
    assert (absent.status, absent.reason) == ("refused", "cannot be exported")
    assert "| **refused** [1] |" in render([refused])
    assert "1. `no such graph`" in render([refused])


def test_page_shows_ratios_and_keeps_what_is_written_by_hand(tmp_path: Path) -> None:
    records = recorded(
        sitting("context", "hycompile-executorch", models=(FULL.transformer, FULL.sambay)), (4.0,) * 6, (1.0,) * 6
    )
    (tmp_path / "README.md").write_text(f"# By hand\n\n{BEGIN}\nwhat was there\n{END}\n\nmore by hand\n")
    write_page(tmp_path, records)
    page = (tmp_path / "README.md").read_text()
    assert page.startswith("# By hand\n")
    assert page.endswith("\n\nmore by hand\n")
    assert "what was there" not in page
    row = "| language/sambay-40m | decode | 512 | hycompile-executorch | 1000 | 0.25 (0.25-0.25) | 0.25 (0.25-0.25) |"
    assert row in page
    assert "| 2.50 MB | 1e-06 |" in page
    assert "| language/transformer-40m | decode | 512 | hycompile-executorch | 250 | 1 | 1 |" in page
    chart = (tmp_path / "context-1.svg").read_text()
    assert "<title>language/sambay-40m at 512: 1 ms</title>" in chart
    assert chart.count("<polyline") == 2
    assert draw([], 1) is None
    with pytest.raises(ValueError, match="put them where the tables belong"):
        insert("no markers", "")


def test_the_cut_stands_beside_its_goal() -> None:
    build = Build(model=FULL.sambay, runtime="executorch", modes=("prefill",), prompt=2048, context=2048)
    entries = tuple(Entry(contender=name, build=build) for name in ("whole", "cut"))
    one = Sitting(comparison="cut", mode="prefill", context=2048, threads=1, entries=entries)
    assert "| <= 0.55 | 0.40 |" in render(recorded(one, (10.0,) * 6, (4.0,) * 6))
    assert "| <= 0.55 | not measured yet |" in render([])


def test_book_keeps_the_order_of_comparisons(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    records = [
        *recorded(sitting("4-bit", "fp32"), (1.0,) * 6),
        *recorded(sitting("memory", "gmu", "mamba1"), (1.0,) * 6, (2.0,) * 6),
    ]
    book = Book(path)
    for record in records:
        book.change(record.cell, lambda known, record=record: record)
    assert [record.cell for record in load(path)] == [
        Cell("memory", "language/sambay-40m", "gmu", "decode", 512, 1),
        Cell("memory", "language/sambay-40m", "mamba1", "decode", 512, 1),
        Cell("4-bit", "language/sambay-40m", "fp32", "decode", 512, 1),
    ]
    assert Book(path).records == {record.cell: record for record in records}
