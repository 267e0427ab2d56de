"""Merging must not cost more multiplications than it saves."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

from hycompile.rewrite import require

_growth: ContextVar[float] = ContextVar("growth", default=1.0)


@contextmanager
def allowing(growth: float) -> Generator[None]:
    """Within it, a merged convolution may have ``growth`` times the multiplications of what it replaces."""
    token = _growth.set(growth)
    try:
        yield
    finally:
        _growth.reset(token)


def require_no_growth(merged: int, apart: int, names: str) -> None:
    """Refuse to merge ``names`` if one convolution multiplies more often than they do."""
    require(
        merged <= apart * _growth.get(),
        "one convolution for {} takes {} multiply-accumulates, apart they take {}",
        names,
        merged,
        apart,
    )
