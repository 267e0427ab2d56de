"""The same weights in every run, and an honest archive to spoil."""

from __future__ import annotations

import pytest
import torch

from tests.core.archives import Members, honest


@pytest.fixture(autouse=True)
def _seed() -> None:  # pyright: ignore[reportUnusedFunction] - pytest uses it
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def members() -> Members:
    """Contents of an honest ``.pt2`` archive, by name."""
    return honest()
