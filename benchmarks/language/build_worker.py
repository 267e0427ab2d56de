"""The process one contender is built in, and held against eager."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TextIO

from benchmarks.language.builds import Build
from benchmarks.language.prepare import Prepared, prepare
from benchmarks.messages import Job


def job(folder: Path) -> Job[Build, Prepared]:
    """Building into folders below this one."""
    return Job(
        "benchmarks.language.build_worker",
        Build.model_dump_json,
        Build.model_validate_json,
        Prepared,
        lambda reason: Prepared(status="failed", reason=reason),
        (str(folder),),
    )


def work(builds: list[Build], folder: Path, pipe: TextIO) -> None:
    """Build one after the other."""
    task = job(folder)
    for build in builds:
        task.say_begun(pipe, build)
        task.say_done(pipe, prepare(build, folder / build.folder))


if __name__ == "__main__":
    with os.fdopen(int(sys.argv[1]), "w") as reports:
        work([Build.model_validate_json(text) for text in sys.argv[3:]], Path(sys.argv[2]), reports)
