"""One package of one model, counted: the work of a process of its own."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.coreml_graph.records import Counts, count
from benchmarks.coverage.ours import DEVICE
from benchmarks.exports import coreml_package
from benchmarks.models import load_module

if TYPE_CHECKING:
    from collections.abc import Sequence


def stock(model: str, folder: Path) -> Path:
    """The package coremltools makes of the exported model on its own."""
    return coreml_package(*load_module(model), folder, DEVICE)


def ours(model: str, pipeline: str, folder: Path) -> Path:
    """The package hycompile makes after ``pipeline``, proved in float32 on the way."""
    from hycompile import registry
    from hycompile.compile import load_program
    from hycompile.lowering import choose_target
    from hycompile.pipeline import Pipeline

    program, _ = Pipeline.parse(pipeline)(load_program(model), prove=False)
    lowered = registry.backend("coreml").lower(program, choose_target(DEVICE, "fp32", pipeline), folder)
    return folder / lowered.files["model"]


def measure(model: str, pipeline: str) -> Counts:
    """Count a package: the stock one for an empty pipeline."""
    from hycompile.backends.coreml.package import load_functions

    with tempfile.TemporaryDirectory(prefix="coreml-graph-") as folder:
        package = ours(model, pipeline, Path(folder)) if pipeline else stock(model, Path(folder))
        return count(load_functions(package).values())


def main(arguments: Sequence[str]) -> None:
    """``MODEL PIPELINE FILE``: write the counts, or the reason there are none, to a file as JSON."""
    model, pipeline, path = arguments
    try:
        said = {"counts": measure(model, pipeline).model_dump()}
    except Exception as error:  # noqa: BLE001 - the tool under test raises whatever it likes; that is the finding
        lines = str(error).strip().splitlines() or ["no message"]
        said = {"reason": f"{type(error).__name__}: {lines[0]}"[:300]}
    Path(path).write_text(json.dumps(said), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
