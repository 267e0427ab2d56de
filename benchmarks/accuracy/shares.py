"""Which process takes which cells, and how long it may still take."""

from __future__ import annotations

import math
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence

from benchmarks.accuracy.methods import setting
from benchmarks.accuracy.records import Cell, Outcome


def shares(cells: Sequence[Cell], jobs: int, cost: Mapping[str, float]) -> list[list[Cell]]:
    """Cells in lists of one process each, so that ``jobs`` processes end at about the same time, with few loads.

    A network's cells are together, unless they are more than one process's part of all; they are dealt out in turn, as
    the cells of slow methods are neighbours. The longest list is the first.

    Args:
        cells: to be measured; a method's are neighbours.
        jobs: how many processes there are.
        cost: of a cell, by test bed, in any unit.
    """
    networks: dict[tuple[str, str, int], list[Cell]] = defaultdict(list)
    for cell in cells:
        networks[cell.network].append(cell)
    fair = sum(cost[cell.bed] for cell in cells) / jobs
    dealt: list[list[Cell]] = []
    for found in networks.values():
        parts = min(len(found), math.ceil(len(found) * cost[found[0].bed] / fair))
        dealt += [found[part::parts] for part in range(parts)]
    return sorted(dealt, key=lambda share: -len(share) * cost[share[0].bed])


class Progress:
    """Counts cells and tells how long the rest will take; threads may share it.

    Args:
        cells: all that are to be measured.
        jobs: how many are measured at a time.
    """

    def __init__(self, cells: Sequence[Cell], jobs: int) -> None:
        self._left, self._jobs, self._all = list(cells), jobs, len(cells)
        self._seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
        self._start, self._lock = time.perf_counter(), threading.Lock()

    def tell(self, cell: Cell, outcome: Outcome, seconds: float) -> str:
        """A line about a cell that is done."""
        with self._lock:
            self._left.remove(cell)
            self._seconds[_kind(cell)].append(seconds)
            done, left = self._all - len(self._left), self._seconds_left()
        bits = setting(cell.weight_bits, cell.activation_bits)
        scores = ", ".join(
            f"{score.testbed} {score.metric} {score.value:.2f} (float {score.reference:.2f})"
            for score in outcome.scores
        )
        where = f"{cell.bed} {cell.model} seed {cell.seed} {cell.method} {bits} {cell.runner}"
        return f"[{done}/{self._all}, {_clock(left)} left] {where}: {scores or outcome.reason} in {seconds:.0f} s"

    def _seconds_left(self) -> float:
        """From what cells of the same bed and method took, or any, shared by the processes."""
        known = {kind: sum(found) / len(found) for kind, found in self._seconds.items()}
        usual = sum(known.values()) / len(known)
        return sum(known.get(_kind(cell), usual) for cell in self._left) / min(self._jobs, max(1, len(self._left)))


def _kind(cell: Cell) -> tuple[str, str]:
    return cell.bed, cell.method


def _clock(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"
