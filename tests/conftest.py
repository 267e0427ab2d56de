"""What every test may use: golden files, and the repository root on the path for ``tests.support``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

Golden = Callable[[str, str, str], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write tests/golden anew from what the passes do now")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Compares text before and after a pass with ``tests/golden/<pass>/<case>.txt``."""
    update = bool(request.config.getoption("--update-golden"))

    def check(case: str, before: str, after: str) -> None:
        path = Path(__file__).parent / "golden" / f"{case}.txt"
        text = f"{before}-----\n{after}"
        if update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        assert path.is_file(), f"no golden file {path.name}: run pytest with --update-golden and read what it writes"
        assert text == path.read_text(), f"{path.name} differs: if that is meant, run pytest with --update-golden"

    return check
