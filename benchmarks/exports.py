"""What the stock exporters make of a module, by their manuals and with no pass of ours before them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

_FOLDERS = re.compile(r"(?<![\w./])/(?:[^\s/:]+/)+")


def export(module: nn.Module, args: tuple[Any, ...]) -> Any:
    """torch's ``ExportedProgram`` of a module."""
    import torch

    with torch.no_grad():
        return torch.export.export(module, args)


def executorch_edge(exported: Any) -> Any:
    """ExecuTorch's edge program with everything XNNPACK takes delegated to it."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    return to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])


def write_onnx(module: Any, args: tuple[Any, ...], path: Path) -> Path:
    """The ONNX file torch's exporter writes of a module or an ``ExportedProgram``."""
    import torch

    with torch.no_grad():
        torch.onnx.export(module, args, path, dynamo=True, verbose=False)
    return path


def coreml_package(module: nn.Module, args: tuple[Any, ...], folder: Path, device: str) -> Path:
    """A float32 package converted by coremltools alone, for the deployment target of a device."""
    import coremltools as ct

    from hycompile.device import load_target

    model: Any = ct.convert(
        export(module, args).run_decompositions({}),
        convert_to="mlprogram",
        minimum_deployment_target=getattr(ct.target, load_target(device).coreml.deployment_target),
        compute_precision=ct.precision.FLOAT32,
        skip_model_load=True,
    )
    path = folder / "model.mlpackage"
    model.save(str(path))
    return path


def one_line(error: BaseException) -> str:
    """Type and innermost message of an error, short enough for a table's footnote, with files but not their folders."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    message = _FOLDERS.sub("", lines[0]) if lines else "no message"
    return f"{type(error).__name__}: {message}"[:300]
