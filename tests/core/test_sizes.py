"""Size expressions: arithmetic goes through, anything else does not."""

from __future__ import annotations

import pytest

from hycompile.sizes import is_size


@pytest.mark.parametrize(
    "expression", ["s0", "Symbol('s77', integer=True)", "2*s1 + 1", "FloorDiv(s0 - 1, 2) + 1", "Max(1, u0)"]
)
def test_size(expression: str) -> None:
    assert is_size(expression)


@pytest.mark.parametrize(
    "expression",
    ["__import__('os')", "Symbol('x')", "s0.args", "(lambda: s0)()", "[s0]", "f'{s0}'", "exec('s0')",
     "s0 if s0 else s1", "", "s0;s1", "'s0'.x"],
)  # fmt: skip
def test_no_size(expression: str) -> None:
    assert not is_size(expression)
