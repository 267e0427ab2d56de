"""The process libllama runs in: it answers requests on a socket until the other end closes."""

from __future__ import annotations

import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from benchmarks.language.llama_library import LlamaLibrary, LlamaSequence
from benchmarks.language.session import timed
from hycompile.errors import HycompileError

Request = tuple[Literal["append"], list[int]] | tuple[Literal["clear", "state_bytes"]]


def serve(connection: Connection, path: Path, threads: int, context: int, exact: bool) -> None:
    """Load, say which CPU variant computes, and answer; an error is an answer too."""
    library = LlamaLibrary()
    try:
        sequence = LlamaSequence(library, path, threads, context, exact)
    except HycompileError as error:
        connection.send(error)
        return
    connection.send(library.variant)
    while True:
        try:
            request: Request = connection.recv()
        except EOFError:
            return
        try:
            connection.send(_answer(sequence, request))
        except HycompileError as error:
            connection.send(error)


def _answer(sequence: LlamaSequence, request: Request) -> Any:
    match request:
        case ("append", tokens):
            return timed(lambda: sequence.append(tokens))
        case ("state_bytes",):
            return sequence.state_bytes
        case _:
            return sequence.clear()


if __name__ == "__main__":
    descriptor, file, threads, context, exact = sys.argv[1:]
    serve(Connection(int(descriptor)), Path(file), int(threads), int(context), exact == "exact")
