"""Runs in the environment that has litert-torch: ``python convert_litert.py MODEL.pt2 MODEL.tflite``.

Prints wall and CPU seconds of the conversion, imports and reading left out, as JSON on its last line.
"""

from __future__ import annotations

import json
import os
import sys
import time

import litert_torch  # pyright: ignore[reportMissingImports] - of another environment
import torch


def main(program: str, tflite: str) -> None:
    """Convert one exported program."""
    exported = torch.export.load(program)
    args, _ = exported.example_inputs or ((), {})
    module = exported.module()
    wall, cpu = time.perf_counter(), sum(os.times()[:4])
    litert_torch.convert(module, args).export(tflite)
    print(json.dumps({"seconds": time.perf_counter() - wall, "cpu_seconds": sum(os.times()[:4]) - cpu}))


if __name__ == "__main__":
    main(*sys.argv[1:])
