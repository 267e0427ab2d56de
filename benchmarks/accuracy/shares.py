"""Which process takes which cells, and how long it may still take."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Sequence

from benchmarks.accuracy.methods import setting
from benchmarks.accuracy.records import Cell, Outcome


def shares(cells: Sequence[Cell], jobs: int) -> list[list[Cell]]:
    """Cells in lists of one process each, so that ``jobs`` processes have work, with as few loads as that allows.

    A network's cells are together, unless there are more processes than networks; they are dealt out in turn, as the
    cells of slow methods are neighbours.
    """
    networks: dict[tuple[str, str, int], list[Cell]] = defaultdict(list)
    for cell in cells:
        networks[cell.network].append(cell)
    parts = -(-jobs // len(networks)) if networks else 1
    dealt = [found[part::parts] for found in networks.values() for part in range(parts)]
    return sorted(filter(None, dealt), key=len, reverse=True)


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
