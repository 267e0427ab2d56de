"""How a failure looks to a user: one line on stderr, one exit code, and the same facts as JSON where asked for."""

from __future__ import annotations

import errno
import os
import sys
import traceback

from typer.exceptions import TyperException

from hycompile.cli.output import print_json
from hycompile.errors import ArtifactError, HycompileError

INTERNAL, INTERRUPTED = 1, 130
EXIT_CODES = """\b
Exit codes:
  0    done
  1    internal error (set HYCOMPILE_TRACEBACK=1 to see the traceback)
  2    wrong usage
  3    the model, checkpoint or .pt2 file cannot be captured
  4    a pass or pipeline is unknown or wrong
  5    parity: something computes another function than the model
  6    unsupported by the target, or its toolchain is missing
  7    the device is unknown, or its file or a recipe is wrong
  8    an artifact cannot be written or read
  9    an evaluation function cannot be imported, raises, or returns no number
  130  interrupted
"""


def report_failure(error: BaseException, as_json: bool) -> int:
    """Print the failure and return the exit code."""
    if os.environ.get("HYCOMPILE_TRACEBACK"):
        traceback.print_exception(error)
    known = _known(error)
    kind = type(known or error).__name__
    message, code = _message(known or error)
    print(f"error: {message}", file=sys.stderr)
    if as_json:
        parts = {"seen": known.seen, "reason": known.reason, "way_out": known.way_out} if known else {}
        print_json({"error": {"kind": kind, "message": message, "exit_code": code, **parts}})
    return code


def _known(error: BaseException) -> HycompileError | None:
    """The error as one of the family; a failing file system becomes an ArtifactError wherever it fails."""
    if isinstance(error, HycompileError):
        return error
    if isinstance(error, OSError) and error.errno is not None:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        way_out = "free space or give another folder" if full else "check the path and its permissions"
        where = error.filename2 or error.filename or "writing"
        return ArtifactError(f"{where}", error.strerror or type(error).__name__, way_out)
    return None


def _message(error: BaseException) -> tuple[str, int]:
    if isinstance(error, HycompileError):
        return str(error), error.exit_code
    if isinstance(error, TyperException):
        return f"{' '.join(error.format_message().split())} See `hycompile COMMAND --help`.", error.exit_code
    text = " ".join(str(error).split()) or "no message"
    return f"internal: {type(error).__name__}: {text}; HYCOMPILE_TRACEBACK=1 shows where, please report it", INTERNAL
