"""LiteRT: converted by litert-torch in an environment of its own, run here by ai-edge-litert with XNNPACK."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.latency.contender import Built, Options
from benchmarks.latency.peers import PEERS_EXTRA
from benchmarks.latency.subject import Run, Subject

if TYPE_CHECKING:
    from torch import Tensor

_CONVERT = Path(__file__).with_name("convert_litert.py")


class LiteRt:
    """The converter wants older packages than ours; the file it writes does not mind."""

    def missing(self, options: Options) -> str | None:
        if find_spec("ai_edge_litert") is None:
            return f"ai-edge-litert not installed: {PEERS_EXTRA}"
        if not options.litert_python.is_file():
            return f"litert-torch has no environment at {options.litert_python.parents[1].name}: see the README"
        return None

    def build(self, subject: Subject, folder: Path, options: Options) -> Built:
        import torch

        program = folder / "model.pt2"
        torch.export.save(subject.exported, program)
        command = [str(options.litert_python), str(_CONVERT), str(program), str(_tflite(folder))]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode:
            raise RuntimeError(_last_line(ended.stderr) or f"the converter ended with exit code {ended.returncode}")
        cost = json.loads(ended.stdout.splitlines()[-1])
        return Built(cost["seconds"], cost["cpu_seconds"])

    def open(self, subject: Subject, folder: Path, threads: int) -> Run:
        import torch

        interpreter: Any = import_module("ai_edge_litert.interpreter").Interpreter(
            model_path=str(_tflite(folder)), num_threads=threads
        )
        interpreter.allocate_tensors()
        signature = interpreter.get_signature_runner()

        def run(inputs: Sequence[Tensor]) -> Sequence[Tensor]:
            results = signature(**{f"args_{index}": value.numpy() for index, value in enumerate(inputs)})
            return [torch.from_numpy(results[f"output_{index}"]) for index in range(len(results))]

        return run


def _tflite(folder: Path) -> Path:
    return folder / "model.tflite"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
