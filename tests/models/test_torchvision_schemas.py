"""timm can be imported wherever torchvision's compiled operators cannot; a healthy install is left alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from hycompile.models import torchvision_schemas
from hycompile.models.torchvision_schemas import declare_missing_operators


@pytest.fixture
def _fresh() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction] - pytest uses it
    declare_missing_operators.cache_clear()
    yield
    declare_missing_operators.cache_clear()


def test_timm_imports_after_declaring_twice() -> None:
    script = (
        "from hycompile.models.torchvision_schemas import declare_missing_operators as declare\n"
        "declare(); declare(); declare.cache_clear(); declare()\n"
        "import timm, torchvision; print(timm.__version__)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.usefixtures("_fresh")
def test_nothing_is_declared_where_the_compiled_operators_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision_schemas, "_compiled_operators_load", lambda: True)
    assert declare_missing_operators() is None
