"""Permutations of many dimensions as permutations of few: by merging what moves together, or in several steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

Shape = tuple[int, ...]


def merged_permutation(shape: Shape, order: Sequence[int]) -> tuple[Shape, list[int]]:
    """The same permutation without dimensions of size one and with dimensions that stay neighbours merged.

    (4, 14, 2, 14, 2, 96) by (0, 2, 4, 1, 3, 5) stays as it is; (3, 1, 4, 5) by (2, 3, 0, 1) becomes (3, 20) by (1, 0).
    """
    moving = [dim for dim in order if shape[dim] != 1]
    runs: list[list[int]] = []
    kept = sorted(moving)
    following = dict(pairwise(kept))
    for dim in moving:
        if runs and following.get(runs[-1][-1]) == dim:
            runs[-1].append(dim)
        else:
            runs.append([dim])
    by_source = sorted(runs)
    return tuple(math.prod([shape[dim] for dim in run]) for run in by_source), [by_source.index(run) for run in runs]


def permutation_steps(sizes: Shape, order: Sequence[int], limit: int) -> list[tuple[Shape, list[int]]]:
    """A permutation as several of at most ``limit`` dimensions each: view the elements as the sizes, then permute.

    Each step puts as many dimensions in place, from the first on, as its own dimensions allow.

    Args:
        sizes: before, as :func:`merged_permutation` gives them.
        order: which dimension each one of the result was.
        limit: at least four, which put one dimension in place: [in place, skipped, next, rest].
    """
    current, steps = list(range(len(sizes))), list[tuple[Shape, list[int]]]()
    while current != list(order):
        view, moves, current = _largest_step(sizes, current, order, limit)
        steps.append((view, moves))
    return steps


def _largest_step(
    sizes: Shape, current: list[int], order: Sequence[int], limit: int
) -> tuple[Shape, list[int], list[int]]:
    """The view, its permutation and the order after it, with as many dimensions of ``order`` in place as can be."""
    for placed in range(len(sizes), 0, -1):
        wanted = [*order[:placed], *(dim for dim in current if dim not in order[:placed])]
        view, moves = merged_permutation(tuple(sizes[dim] for dim in current), [current.index(dim) for dim in wanted])
        if len(view) <= limit:
            return view, moves, wanted
    raise ValueError(f"limit is {limit}: a step that puts one dimension in place takes four")
