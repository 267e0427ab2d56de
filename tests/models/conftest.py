"""Real weights for the tests that need them."""

from __future__ import annotations

from pathlib import Path

import pytest

from hycompile.errors import CaptureError
from hycompile.models import ppocr


@pytest.fixture(scope="session")
def ocr_files() -> Path:
    """The recogniser's files; skips where they are neither cached nor to be had."""
    try:
        return ppocr.files()
    except CaptureError as error:
        pytest.skip(str(error))
