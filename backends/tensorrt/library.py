"""The TensorRT package a device file asks for, a logger that keeps what it hears, and the GPU at hand."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import Any, Literal

from hycompile.errors import Unsupported

Flavour = Literal["tensorrt", "tensorrt_rtx"]
_EXTRA: dict[str, str] = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}


def missing(flavour: Flavour) -> str | None:
    """None when the package is installed; otherwise how to get it."""
    if find_spec(flavour) is not None:
        return None
    return f"{flavour} is not installed: pip install 'hycompile[{_EXTRA[flavour]}]'"


def load(flavour: Flavour) -> Any:
    """The imported package. Both flavours share one interface; where they differ, the caller asks with ``hasattr``.

    Raises:
        Unsupported: it is not installed.
    """
    absent = missing(flavour)
    if absent is not None:
        raise Unsupported(flavour, absent.partition(": ")[0], absent.partition(": ")[2])
    return importlib.import_module(flavour)


def make_logger(trt: Any) -> Any:
    """A TensorRT logger that prints nothing and keeps errors, oldest first, in ``errors``."""

    class Listener(trt.ILogger):
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                self.errors.append(msg)

    return Listener()


def last_error(logger: Any) -> str:
    """What a :func:`make_logger` logger heard last."""
    return logger.errors[-1] if logger.errors else "it gives no reason"


def gpu_capability() -> str | None:
    """Compute capability of the GPU torch would use (``"8.9"``); None without one."""
    import torch

    if not torch.cuda.is_available():
        return None
    major, minor = torch.cuda.get_device_capability()
    return f"{major}.{minor}"


def capability_refusal(flavour: Flavour, capability: str) -> str | None:
    """Why no engine for this compute capability can be built here; None when it can."""
    trt = load(flavour)
    if hasattr(trt, "ComputeCapability"):
        if hasattr(trt.ComputeCapability, f"SM{capability.replace('.', '')}"):
            return None
        known = sorted(name for name in dir(trt.ComputeCapability) if name.startswith("SM"))
        return f"{flavour} {trt.__version__} builds for {', '.join(known)} only"
    here = gpu_capability()
    if here == capability:
        return None
    found = "none is here" if here is None else f"the one here has {here}"
    return f"{flavour} builds on the GPU it builds for, and {found}"
