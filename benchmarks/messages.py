"""How a worker is told what to do, and how it says on a pipe what it begins and what became of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TextIO, TypeVar

from pydantic import BaseModel

A = TypeVar("A")
O = TypeVar("O", bound=BaseModel)  # noqa: E741 - an outcome, beside an attempt


@dataclass(frozen=True)
class Begun(Generic[A]):
    """The worker is at an attempt; if nothing follows, that attempt killed it. It may be said again and again."""

    attempt: A


@dataclass(frozen=True)
class Done(Generic[O]):
    """What became of the attempt begun last."""

    outcome: O


@dataclass(frozen=True)
class Job(Generic[A, O]):
    """One benchmark's kind of work: how its attempts and outcomes travel.

    Args:
        worker: module run with ``-m``; its arguments are a file descriptor, ``settings``, and encoded attempts.
        encode, decode: an attempt as text, and back.
        outcome: class of the outcomes.
        lost: the outcome of an attempt that took its process down, for the reason given.
        settings: what all attempts share, as text.
    """

    worker: str
    encode: Callable[[A], str]
    decode: Callable[[str], A]
    outcome: type[O]
    lost: Callable[[str], O]
    settings: tuple[str, ...] = ()

    def command(self, attempts: Sequence[A], descriptor: int) -> list[str]:
        """The command line of a worker for these attempts that reports to an inherited descriptor."""
        encoded = (self.encode(attempt) for attempt in attempts)
        return [sys.executable, "-m", self.worker, str(descriptor), *self.settings, *encoded]

    def read(self, line: str) -> Begun[A] | Done[O]:
        """One line from the worker's pipe."""
        message = json.loads(line)
        if "begun" in message:
            return Begun(self.decode(message["begun"]))
        return Done(self.outcome.model_validate(message["done"]))

    def say_begun(self, pipe: TextIO, attempt: A) -> None:
        """Called by the worker when it turns to an attempt."""
        print(json.dumps({"begun": self.encode(attempt)}), file=pipe, flush=True)

    def say_done(self, pipe: TextIO, outcome: O) -> None:
        """Called by the worker when the attempt it turned to last is over."""
        print(json.dumps({"done": outcome.model_dump(mode="json")}), file=pipe, flush=True)
