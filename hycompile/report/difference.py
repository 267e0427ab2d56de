"""Two texts side by side, with the unchanged stretches folded away."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from difflib import SequenceMatcher
from re import compile as pattern
from typing import Literal

_OPERATOR = pattern(r"^%\S+ = ([\w.]+)\(")


@dataclass(frozen=True)
class Row:
    """One line of the comparison; ``fold`` stands for a stretch of ``left`` unchanged lines not shown."""

    kind: Literal["same", "changed", "fold"]
    left: str = ""
    right: str = ""


def side_by_side(before: str, after: str, context: int = 2) -> list[Row]:
    """Lines of both texts, matched up; unchanged stretches keep ``context`` lines around each change."""
    old, new = before.splitlines(), after.splitlines()
    rows: list[Row] = []
    opcodes = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    for index, (tag, old_from, old_to, new_from, new_to) in enumerate(opcodes):
        if tag == "equal":
            lines = old[old_from:old_to]
            head, tail = (0 if index == 0 else context), (0 if index == len(opcodes) - 1 else context)
            rows += _folded(lines, head, tail)
            continue
        left, right = old[old_from:old_to], new[new_from:new_to]
        for line in range(max(len(left), len(right))):
            rows.append(Row("changed", "".join(left[line : line + 1]), "".join(right[line : line + 1])))
    return rows


def _folded(lines: list[str], head: int, tail: int) -> list[Row]:
    hidden = len(lines) - head - tail
    if hidden <= 1:
        return [Row("same", line, line) for line in lines]
    shown_first = [Row("same", line, line) for line in lines[:head]]
    shown_last = [Row("same", line, line) for line in lines[len(lines) - tail :]]
    return [*shown_first, Row("fold", f"{hidden} unchanged lines"), *shown_last]


@dataclass(frozen=True)
class OperatorCount:
    """How often an operator stands in the graph before and after the passes."""

    operator: str
    before: int
    after: int


def operator_counts(before: str, after: str) -> list[OperatorCount]:
    """Operators of both text forms, the most frequent first."""
    old, new = _count(before), _count(after)
    names = sorted(old | new, key=lambda name: (-max(old[name], new[name]), name))
    return [OperatorCount(name, old[name], new[name]) for name in names]


def _count(text: str) -> Counter[str]:
    return Counter(found[1] for line in text.splitlines() if (found := _OPERATOR.match(line)))
