"""The one error family: every message carries what was seen, the reason and the way out, on one line."""

from __future__ import annotations

from typing import ClassVar


class HycompileError(Exception):
    """Base of all errors a user can meet.

    Args:
        seen: the value that caused it, as the user wrote it (``model 'nextvit_smal'``).
        reason: why that is a problem (``no such model``).
        way_out: what to do next (``hycompile models lists them``).
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, seen: str, reason: str, way_out: str) -> None:
        self.seen, self.reason, self.way_out = (" ".join(part.split()) for part in (seen, reason, way_out))
        super().__init__(f"{self.seen}: {self.reason}; {self.way_out}")

    def __reduce__(self) -> tuple[type[HycompileError], tuple[str, str, str]]:
        """Errors cross process boundaries: rebuild them from their three parts."""
        return type(self), (self.seen, self.reason, self.way_out)


class CaptureError(HycompileError):
    """A model, checkpoint or ``.pt2`` file cannot become a Program."""

    exit_code = 3


class PassError(HycompileError):
    """A pass or pipeline is unknown, badly written, or broke its own contract."""

    exit_code = 4


class ParityError(HycompileError):
    """Something computes another function than the model did."""

    exit_code = 5


class AccuracyError(ParityError):
    """A build scores lower than the user's budget allows."""


class Unsupported(HycompileError):  # noqa: N818 - reads as what it says
    """The target cannot take this program, or its toolchain is not installed."""

    exit_code = 6


class DeviceError(HycompileError):
    """A device is unknown, its file or a recipe for it is wrong, or it vanished."""

    exit_code = 7


class ArtifactError(HycompileError):
    """An artifact cannot be written, read, or is not what its manifest says."""

    exit_code = 8


class EvaluationError(HycompileError):
    """An evaluation function cannot be imported, raises, or returns no number."""

    exit_code = 9
