"""What a run tells its workers, and where they put things."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from benchmarks.latency.contender import Options
from benchmarks.latency.rounds import Plan


class Settings(BaseModel):
    """Shared by all attempts on one model.

    Args:
        folder: each contender's artifact is in a folder of its name below this one.
        options: for building.
        plan: for timing.
        load_before: one-minute load average before the run began.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: Path
    options: Options
    plan: Plan
    load_before: float | None

    def artifact(self, contender: str) -> Path:
        """The folder of a contender's artifact."""
        return self.folder / contender
