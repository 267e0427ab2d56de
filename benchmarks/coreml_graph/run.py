"""Counts what Core ML packages hold, hycompile's beside stock conversions; results are kept as they come.

In the repository's root:

    python -m benchmarks.coreml_graph.run                    # what results.json does not hold yet
    python -m benchmarks.coreml_graph.run --fresh ours       # our side anew
    python -m benchmarks.coreml_graph.run --render           # README.md from results.json, nothing else
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.coreml_graph.records import RESULTS, Record, load, save
from benchmarks.coreml_graph.render import render
from benchmarks.models import MODELS
from benchmarks.supervise import ROOT
from hycompile.device import load_target
from hycompile.files import write_text

PIPELINE = load_target("iphone-16").pipeline
SIDES = ("stock", "ours")


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    options = _parser().parse_args(arguments)
    path: Path = options.results
    if not options.render:
        for model in options.models:
            for side in options.sides:
                _run(path, model, side, options)
    write_text(path.with_name("README.md"), render(load(path)))


def _run(path: Path, model: str, side: str, options: argparse.Namespace) -> None:
    """Fill one side of one model's record, unless it is there; the file is whole after every step."""
    records = {record.model: record for record in load(path)}
    record = records.get(model, Record(model=model))
    pipeline: str = options.pipeline if side == "ours" else ""
    if getattr(record, side) is not None and side not in options.fresh:
        return
    said = _measure(model, pipeline)
    update: dict[str, Any] = {side: said.get("counts"), f"{side}_reason": said.get("reason", "")}
    if side == "ours":
        update["ours_pipeline"] = pipeline
    update["tools"] = {name: version(name) for name in ("coremltools", "torch")}
    records[model] = Record.model_validate(record.model_dump() | update)
    save(path, sorted(records.values(), key=_place))
    print(f"{model:<28} {side:<6} {said.get('reason', 'counted')}", flush=True)


def _measure(model: str, pipeline: str) -> dict[str, Any]:
    """A process of its own, so that its memory is given back and a crash costs one side of one model."""
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder, "said.json")
        command = [sys.executable, "-m", "benchmarks.coreml_graph.measure", model, pipeline, str(said)]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        if not said.is_file():
            return {"reason": f"the process ended with exit code {done.returncode}"}
        return json.loads(said.read_text(encoding="utf-8"))


def _place(record: Record) -> tuple[int, str]:
    """Order of the table; models outside the list come last, by name."""
    return MODELS.index(record.model) if record.model in MODELS else len(MODELS), record.model


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coreml_graph.run", description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=SIDES)
    parser.add_argument("--fresh", nargs="+", default=[], choices=SIDES, help="sides to count anew")
    parser.add_argument("--pipeline", default=PIPELINE, help="what runs before our own lowering")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--render", action="store_true", help="write README.md from the results and stop")
    return parser


if __name__ == "__main__":
    main()
