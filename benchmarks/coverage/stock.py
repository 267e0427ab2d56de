"""What each runtime's own exporter does with the same model, no pass of ours before it, by its manual."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.coverage.ours import DEVICE, Subject, judge
from benchmarks.coverage.records import Outcome
from benchmarks.exports import coreml_package, executorch_edge, export, one_line, write_onnx
from benchmarks.models import load_module

if TYPE_CHECKING:
    from torch import Tensor, nn

    from hycompile.backend import OperatorTime

Run = Callable[[Sequence["Tensor"]], Sequence["Tensor"]]


@dataclass(frozen=True)
class StockSession:
    """A stock artifact with the face of a backend session, so that the same proof holds both."""

    execute: Run

    def run(self, inputs: Sequence[Tensor], method: str = "forward") -> tuple[Tensor, ...]:
        """Flat outputs on flat inputs."""
        return tuple(self.execute(inputs))

    def state(self) -> None:
        """Vision models have none."""

    def profile(self, inputs: Sequence[Tensor], runs: int = 8) -> list[OperatorTime] | None:
        """Not asked for here."""
        return None


def try_stock(subject: Subject, backend: str) -> Outcome:
    """Export with the stock tool in fp32, and prove what it made."""
    module, args = load_module(subject.model)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="stock-") as folder:
        try:
            execute = _TOOLS[backend](module, args, Path(folder))
        except Exception as error:  # noqa: BLE001 - the tool under test raises whatever it likes; that is the finding
            return Outcome(status="refused", reason=one_line(error), seconds=time.perf_counter() - start)
        seconds = time.perf_counter() - start
        if execute is None:
            return Outcome(status="built", reason="no such GPU here", seconds=seconds)
        try:
            held = judge(StockSession(execute), subject.original, "fp32")
        except Exception as error:  # noqa: BLE001 - as above: its artifact does not run
            return Outcome(status="failed", reason=f"does not run: {one_line(error)}", seconds=seconds)
    return held.model_copy(update={"seconds": seconds})


def _executorch(module: nn.Module, args: tuple[Any, ...], folder: Path) -> Run:
    from executorch.runtime import Runtime

    program = Runtime.get().load_program(executorch_edge(export(module, args)).to_executorch().buffer)

    def run(inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        method = program.load_method("forward")
        if method is None:
            raise RuntimeError("the runtime gives no method")
        return [output.clone() for output in method.execute(list(inputs))]

    return run


def _onnx(module: nn.Module, args: tuple[Any, ...], folder: Path) -> Run:
    import onnxruntime
    import torch

    session: Any = onnxruntime.InferenceSession(
        str(write_onnx(module, args, folder / "model.onnx")), providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in session.get_inputs()]

    def run(inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        feed = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        return [torch.from_numpy(value) for value in session.run(None, feed)]

    return run


def _coreml(module: nn.Module, args: tuple[Any, ...], folder: Path) -> Run:
    """Executed by our interpreter, since Core ML does not run here."""
    from hycompile.backends.coreml.interpreter import Machine
    from hycompile.backends.coreml.package import load_functions

    machine = Machine(load_functions(coreml_package(module, args, folder, DEVICE))["main"], "main")

    def run(inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        return machine.run(dict(zip(machine.inputs, inputs, strict=True)), {})

    return run


def _tvm(module: nn.Module, args: tuple[Any, ...], folder: Path) -> Run:
    import torch
    import tvm
    from tvm import relax
    from tvm.relax.frontend.torch import from_exported_program

    imported = from_exported_program(export(module, args))
    cpu: Any = tvm.cpu()
    machine: Any = relax.VirtualMachine(tvm.compile(imported, target=tvm.target.Target({"kind": "llvm"})), cpu)

    def run(inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        returned = machine["main"](*(tvm.runtime.tensor(value.numpy()) for value in inputs))
        outputs = [returned] if isinstance(returned, tvm.runtime.Tensor) else list(returned)
        return [torch.from_numpy(value.numpy().copy()) for value in outputs]

    return run


def _tensorrt_rtx(module: nn.Module, args: tuple[Any, ...], folder: Path) -> None:
    """The stock ONNX file through TensorRT's own parser and builder, ahead of time; no GPU here to run it."""
    from hycompile.backends.tensorrt.engine import build_engine
    from hycompile.device import load_target

    capability = load_target(DEVICE).tensorrt.compute_capability
    build_engine(write_onnx(module, args, folder / "model.onnx"), "tensorrt_rtx", capability, "fp32", {})


_TOOLS: dict[str, Callable[..., Run | None]] = {
    "executorch": _executorch,
    "onnx": _onnx,
    "coreml": _coreml,
    "tvm": _tvm,
    "tensorrt_rtx": _tensorrt_rtx,
}
