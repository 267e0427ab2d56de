"""Texts of the tables."""

from __future__ import annotations

import pytest

from hycompile.report.rows import error_text, fact_lines, size_text


@pytest.mark.parametrize(
    ("error", "text"), [(None, ""), (0.0, "0.0e+00"), (1.234e-7, "1.2e-07"), (float("inf"), "infinite")]
)
def test_error_text(error: float | None, text: str) -> None:
    assert error_text(error) == text


@pytest.mark.parametrize(("size", "text"), [(None, ""), (900, "0.9 kB"), (45_200_000, "45.2 MB")])
def test_size_text(size: int | None, text: str) -> None:
    assert size_text(size) == text


def test_facts_become_lines() -> None:
    assert fact_lines({"mean": 2, "cat": 31}) == ["mean 2, cat 31"]
    assert fact_lines({"mean": 2, "cat": [1, 2], "empty": {}}) == ["mean: 2", "cat: 1; 2"]
    assert fact_lines(["x", 0.98765]) == ["x", "0.9877"]
    reason = {"count": 2, "operator": "mean.dim", "reason": "rank 3", "where": "net.py:7 in forward"}
    assert fact_lines([reason]) == ["mean.dim (x2) at net.py:7 in forward: rank 3"]
