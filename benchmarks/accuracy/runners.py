"""Artifacts of a quantised Program as something that answers batches; nothing here is loaded for simulations."""

from __future__ import annotations

import tempfile
from pathlib import Path

from torch import Tensor

from benchmarks.accuracy.exam import Run
from hycompile.program import Program

# Where a runtime is not the host's own, the device whose artifact a reference interpreter runs here.
DEVICES = {"executorch": "host", "onnx": "host", "tvm": "host", "coreml": "iphone-16"}


def open_artifact(program: Program, runtime: str) -> Run:
    """Lower a quantised Program and load what comes out."""
    from hycompile.cache import Cache
    from hycompile.device import open_session
    from hycompile.lowering import lower

    with tempfile.TemporaryDirectory(prefix="accuracy-") as folder:
        # A cache of its own: these artifacts are of no use to anybody later.
        artifact = lower(program, DEVICES[runtime], runtime, precision="int8", cache=Cache(Path(folder)))
        session = open_session(artifact)

    def run(batch: Tensor) -> Tensor:
        return session.run((batch,))[0]

    return run
