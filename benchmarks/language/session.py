"""What every runtime of this benchmark offers: a loaded model with the state of one sequence."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Timed:
    """One execution.

    Args:
        logits: of the last token [vocabulary].
        seconds: wall time, in the process that computes.
        cpu_seconds: processor time of that process in all its threads.
    """

    logits: Logits
    seconds: float
    cpu_seconds: float


class Session(Protocol):
    """A model with the state of one sequence."""

    def prefill(self, tokens: Sequence[int]) -> Timed:
        """Continue the sequence by a prompt; a runtime may ask that this begins the sequence."""
        ...

    def decode(self, token: int) -> Timed:
        """Continue the sequence by one token."""
        ...

    def reset(self) -> None:
        """Start a new sequence."""
        ...

    @property
    def state_bytes(self) -> int:
        """Bytes of what is remembered of the sequence: recurrent states, keys and values.

        Keys and values are those of the tokens so far; of the whole context where a runtime always holds all of it.
        """
        ...

    def close(self) -> None:
        """Give the memory back."""
        ...


def timed(compute: Callable[[], Logits]) -> Timed:
    """Run something, in this process, and read both clocks."""
    wall, cpu = time.perf_counter(), time.process_time()
    logits = compute()
    return Timed(logits, time.perf_counter() - wall, time.process_time() - cpu)
