"""The LLVM target of a device, and whether this host can execute what is built for it."""

from __future__ import annotations

import platform
from typing import Any

from hycompile.errors import Unsupported
from hycompile.target import Target

HOST = "host"
# Sums may be reordered and contracted to fused multiply-adds; NaN and infinity keep their meaning. No reciprocals:
# 0 / 1e-5 in float16 would become 0 times infinity.
_ARITHMETIC = {"fast-math-reassoc": True, "fast-math-contract": True, "fast-math-nsz": True}
_ARCHITECTURES = {"arm64": "aarch64", "amd64": "x86_64"}


def architecture(triple: str) -> str:
    """The first part of a triple, under LLVM's name (``aarch64``, ``x86_64``)."""
    name = triple.split("-", 1)[0].lower()
    return _ARCHITECTURES.get(name, name)


def is_this_host(triple: str) -> bool:
    """Whether a library for ``triple`` can be loaded by this process."""
    here = architecture(platform.machine())
    return architecture(triple) == here and "linux-gnu" in triple and platform.system() == "Linux"


def llvm_target(target: Target) -> Any:
    """TVM's target for the device's CPU.

    Raises:
        Unsupported: ``mcpu`` is ``host`` but the device is another machine, or LLVM does not know the triple or CPU.
    """
    import tvm
    from tvm.target import codegen

    mcpu, features = target.tvm.mcpu, list(target.tvm.features)
    if mcpu == HOST:
        if not is_this_host(target.triple):
            raise Unsupported(
                f"device {target.name!r}: mcpu 'host'",
                f"the device is {target.triple}, this machine is {platform.machine()}",
                "name the device's CPU as tvm.mcpu in its device file",
            )
        mcpu, features = _host_cpu(features)
    if not codegen.llvm_is_valid_cpu(mcpu, target.triple):
        raise Unsupported(
            f"mcpu {mcpu!r}",
            f"LLVM knows no such {architecture(target.triple)} processor",
            "correct tvm.mcpu in the device file",
        )
    described: dict[str, Any] = {"kind": "llvm", "mtriple": target.triple, "mcpu": mcpu, "num-cores": target.tvm.cores}
    if features:
        described["mattr"] = features
    try:
        return tvm.target.Target({**described, **_ARITHMETIC})
    except (ValueError, RuntimeError) as error:
        raise Unsupported(
            f"triple {target.triple!r}, mcpu {mcpu!r}",
            f"LLVM does not take it ({str(error).splitlines()[-1]})",
            "correct triple, tvm.mcpu or tvm.features in the device file",
        ) from error


def _host_cpu(features: list[str]) -> tuple[str, list[str]]:
    """LLVM's name and features of this machine's CPU; features asked for by hand come last and win."""
    import tvm

    name = str(tvm.get_global_func("tvm.codegen.llvm.GetHostCPUName")())
    found = tvm.get_global_func("tvm.codegen.llvm.GetHostCPUFeatures")()
    detected = [f"{'+' if bool(present) else '-'}{feature}" for feature, present in sorted(found.items())]
    return name, [*detected, *features]
