"""Sizes for reshapes: XNNPACK infers one of them at run time, and takes no other that is not a number."""

from __future__ import annotations

from collections.abc import Sequence

from hycompile.rewrite import require


def inferred(sizes: Sequence[object]) -> list[int]:
    """``[s0, 2, 5]`` as ``[-1, 2, 5]``; refuses the rewrite if more than one size is dynamic."""
    dynamic = [size for size in sizes if not isinstance(size, int)]
    require(len(dynamic) <= 1, "{} has {} dynamic sizes, of which one could be inferred", list(sizes), len(dynamic))
    return [size if isinstance(size, int) else -1 for size in sizes]


def require_fixed(sizes: Sequence[object]) -> None:
    """Refuses the rewrite if one of the sizes is dynamic."""
    require(all(isinstance(size, int) for size in sizes), "sizes {} are not all fixed", list(sizes))
