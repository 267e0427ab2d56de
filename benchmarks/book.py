"""A results file that is kept up to date while a benchmark runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from hycompile.files import write_text

K = TypeVar("K")
R = TypeVar("R")


class Book(Generic[K, R]):
    """Records by key; every change is on disk before the call returns, and threads may share it.

    Args:
        path: the results file; what it holds already is kept.
        records: what it holds.
        key: of a record.
        place: sorts keys; the file is in this order.
        dump: the file's text.
    """

    def __init__(
        self,
        path: Path,
        records: Iterable[R],
        *,
        key: Callable[[R], K],
        place: Callable[[K], Any],
        dump: Callable[[Sequence[R]], str],
    ) -> None:
        self.path, self.records = path, {key(record): record for record in records}
        self._key, self._place, self._dump = key, place, dump
        self._lock = threading.Lock()

    def change(self, key: K, make: Callable[[R | None], R]) -> None:
        """Store what ``make`` makes of the record known under ``key``, or of None."""
        with self._lock:
            self.records[key] = make(self.records.get(key))
            ordered = sorted(self.records.values(), key=lambda record: self._place(self._key(record)))
            write_text(self.path, self._dump(ordered))

    def drop(self, keys: Iterable[K]) -> None:
        """Forget records, to have them made again; the file changes with the next one stored."""
        with self._lock:
            for key in keys:
                self.records.pop(key, None)
