"""How far apart two texts are."""

from __future__ import annotations

from collections.abc import Sequence


def edits(first: Sequence[object], second: Sequence[object]) -> int:
    """Least insertions, deletions and replacements that make one sequence the other (Levenshtein 1966)."""
    if first == second:
        return 0
    before = list(range(len(second) + 1))
    for row, one in enumerate(first, 1):
        now = [row]
        for column, other in enumerate(second, 1):
            now.append(min(before[column] + 1, now[-1] + 1, before[column - 1] + (one != other)))
        before = now
    return before[-1]
