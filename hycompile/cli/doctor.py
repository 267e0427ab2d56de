"""``hycompile doctor``: what is installed, what is missing, and how to get it."""

from __future__ import annotations

import platform
import shutil
from dataclasses import asdict, dataclass
from typing import Annotated

import typer

from hycompile.cli.output import JsonFlag, console, print_json

_PACKAGES = {
    "torch": "pip install torch==2.13.0",
    "executorch": "pip install executorch==1.5.1",
    "onnx": "pip install onnx",
    "onnxscript": "pip install onnxscript",
    "onnxruntime": "pip install onnxruntime",
    "coremltools": "pip install coremltools==9.0",
    "apache-tvm": "pip install apache-tvm==0.27.0.post1",
    "apache-tvm-ffi": "pip install apache-tvm-ffi==0.1.14.post1",
    "tensorrt": "pip install 'hycompile[tensorrt]' (needs an NVIDIA GPU to be of use)",
    "tensorrt-rtx": "pip install 'hycompile[tensorrt-rtx]'",
    "torch-mlir": "pip install torch-mlir -f https://github.com/llvm/torch-mlir-release/releases/expanded_assets/dev-wheels",
    "timm": "pip install timm",
    "transformers": "pip install transformers",
}
_PROGRAMS = {
    "c++": "apt install g++ (links TVM libraries)",
    "aarch64-linux-gnu-g++": "apt install g++-aarch64-linux-gnu (links TVM libraries for aarch64 boards)",
    "qemu-aarch64": "apt install qemu-user (runs aarch64 libraries in the tests marked slow)",
}


@dataclass(frozen=True)
class Check:
    """One thing looked for; ``way_out`` says how to get it when ``found`` is None."""

    kind: str
    name: str
    found: str | None
    way_out: str


def doctor(
    device: Annotated[str, typer.Option(help="Check the runtimes with this device's options.")] = "host",
    json: JsonFlag = False,
) -> None:
    """Say what is installed, what is missing, how to get it.

    The exit code is 0 even when something is missing.
    """
    checks = [*_packages(), *_programs(), *_backends(device)]
    if json:
        document = {"python": platform.python_version(), "system": platform.platform(), "device": device}
        print_json({**document, "checks": [asdict(check) for check in checks]})
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table("", "what", "found", "how to get it", box=None, pad_edge=False)
    for check in checks:
        style = "green" if check.found else "yellow"
        way_out = "" if check.found else escape(check.way_out)
        table.add_row(check.kind, check.name, escape(check.found or "missing"), way_out, style=style)
    console().print(f"Python {platform.python_version()} on {platform.platform()}")
    console().print(table)


def _packages() -> list[Check]:
    return [Check("package", name, _version(name), way_out) for name, way_out in _PACKAGES.items()]


def _programs() -> list[Check]:
    return [Check("program", name, shutil.which(name), way_out) for name, way_out in _PROGRAMS.items()]


def _backends(device: str) -> list[Check]:
    from hycompile import registry
    from hycompile.device import load_target
    from hycompile.errors import HycompileError

    target = load_target(device)
    checks: list[Check] = []
    for name in registry.names("backends"):
        try:
            missing = registry.backend(name).missing(target)
        except HycompileError as error:
            missing = str(error)
        checks.append(Check("backend", name, "ready" if missing is None else None, missing or ""))
    return checks


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None
