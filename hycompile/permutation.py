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


def block_swaps(sizes: Shape, order: Sequence[int]) -> list[tuple[int, int, int, int]]:
    """A permutation as exchanges of neighbouring blocks: each views the elements as [before, left, right, after]."""
    current, swaps = list(range(len(sizes))), list[tuple[int, int, int, int]]()
    for position, dim in enumerate(order):
        at = current.index(dim)
        if at == position:
            continue
        groups = (current[:position], current[position:at], [dim], current[at + 1 :])
        before, left, right, after = (math.prod([sizes[d] for d in group]) for group in groups)
        swaps.append((before, left, right, after))
        current = [*groups[0], dim, *groups[1], *groups[3]]
    return swaps
