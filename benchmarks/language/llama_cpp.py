"""llama.cpp as a contender: a model in a process of its own, which a crash inside the library takes down alone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.language import llama_library
from benchmarks.language.llama_worker import Request
from benchmarks.language.session import Timed
from benchmarks.supervise import ending, last_words, python_path
from hycompile.errors import DeviceError, HycompileError, Unsupported


def missing() -> str | None:
    """None where llama.cpp can run; otherwise what is not there, and how to get it."""
    return llama_library.missing()


def load(path: Path, threads: int, context: int, exact: bool = False, limit_s: float = 600.0) -> LlamaCppSession:
    """Open a GGUF file.

    Args:
        path: the file.
        threads: that compute.
        context: tokens a sequence may have.
        exact: float32 keys and values and no fused attention, for comparing numbers; otherwise llama.cpp's defaults.
        limit_s: seconds after which loading, or one execution, is given up and the process ended.

    Raises:
        Unsupported: when the library is not here.
        ArtifactError: when llama.cpp does not take the file.
        DeviceError: when its process dies or hangs.
    """
    absent = missing()
    if absent:
        raise Unsupported("llama.cpp", "the library is not here", absent)
    return LlamaCppSession(path, threads, context, exact, limit_s)


class LlamaCppSession:
    """One sequence of one model; ``session.Session`` says what its methods do.

    After a ``DeviceError`` it is of no more use: load anew.
    """

    def __init__(self, path: Path, threads: int, context: int, exact: bool, limit_s: float) -> None:
        self._limit_s, self._model = limit_s, path.name
        ours, theirs = socket.socketpair()
        self._connection = Connection(ours.detach())
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the session
        arguments = [str(theirs.fileno()), str(path), str(threads), str(context), "exact" if exact else "default"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.language.llama_worker", *arguments],
            pass_fds=[theirs.fileno()],
            stdout=self._said,
            stderr=self._said,
            env=os.environ | {"PYTHONPATH": python_path()},
        )
        theirs.close()
        self.process_id = self._process.pid
        try:
            self.variant: str = self._answer()
        except HycompileError:
            self.close()
            raise

    def prefill(self, tokens: Sequence[int]) -> Timed:
        return self._ask(("append", list(tokens)))

    def decode(self, token: int) -> Timed:
        return self._ask(("append", [token]))

    def reset(self) -> None:
        self._ask(("clear",))

    @property
    def state_bytes(self) -> int:
        return self._ask(("state_bytes",))

    def close(self) -> None:
        self._connection.close()
        self._process.kill()
        self._process.wait()
        self._said.close()

    def _ask(self, request: Request) -> Any:
        try:
            self._connection.send(request)
        except BrokenPipeError:
            raise self._ended() from None
        return self._answer()

    def _answer(self) -> Any:
        if not self._connection.poll(self._limit_s):
            self._process.kill()
            raise DeviceError(
                f"llama.cpp on {self._model}", f"no answer within {self._limit_s:.0f} s", "allow more, or ask for less"
            )
        try:
            answer = self._connection.recv()
        except (EOFError, ConnectionResetError):
            raise self._ended() from None
        if isinstance(answer, HycompileError):
            raise answer
        return answer

    def _ended(self) -> DeviceError:
        how = ending(self._process.wait())
        return DeviceError(f"llama.cpp on {self._model}", f"{how}{last_words(self._said)}", "load it anew")
