"""Keeps torch's warnings about its own code from users who can do nothing about them."""

from __future__ import annotations

import warnings
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def quiet_torch() -> Generator[None]:
    """Silences two known warnings of ``torch.export`` and ``torch.fx``; any other still shows."""
    with warnings.catch_warnings():
        # torch's own pytree pickling uses a deprecated isinstance check.
        warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\).*", category=FutureWarning)
        # A cache some models fill on their first call; it is a constant in the graph, which is what we want.
        warnings.filterwarnings("ignore", message=r".*(was|were) assigned during export.*", category=UserWarning)
        yield
