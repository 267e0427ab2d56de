"""Which files hold a Program that is quantised already; told without reading it, and without torch."""

from __future__ import annotations

import zipfile
from pathlib import Path

# The plan's name in a saved Program.
PLAN = "quantisation.json"


def holds_plan(source: str) -> bool:
    """Whether ``source`` is the file of a saved Program with a quantisation plan."""
    path = Path(source)
    try:
        if not path.is_file():
            return False
        with zipfile.ZipFile(path) as archive:
            return PLAN in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False
