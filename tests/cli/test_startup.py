"""``hycompile --help`` must be quick: nothing heavy may be imported before a command needs it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# Typer itself imports pydantic as soon as a command takes an argument; the rest nobody may import.
HEAVY = {
    "coremltools",
    "executorch",
    "jinja2",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "plotly",
    "pydantic",
    "rich",
    "tensorrt",
    "tensorrt_rtx",
    "timm",
    "tokenizers",
    "torch",
    "torch_mlir",
    "transformers",
    "tvm",
}
PROGRAM = """
import json, sys
from hycompile.cli.main import run
code = run({arguments!r})
print(json.dumps([code, sorted({heavy!r} & set(sys.modules))]), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        (["--help"], []),
        (["--version"], []),
        (["build", "--help"], ["pydantic"]),
        (["devices", "--json"], ["pydantic"]),
        (["models", "--json", "mobilevit"], ["pydantic"]),
    ],
)
def test_modules_imported(arguments: list[str], allowed: list[str]) -> None:
    program = PROGRAM.format(arguments=arguments, heavy=HEAVY)
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    code, imported = json.loads(ran.stderr.splitlines()[-1])
    assert code == 0
    assert imported == allowed
    assert ran.stdout
