"""What each runtime's own exporter does with the same model, no pass of ours before it, by its manual."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.coverage.ours import DEVICE, Subject, judge
from benchmarks.coverage.records import Outcome

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
            return Outcome(status="refused", reason=_one_line(error), seconds=time.perf_counter() - start)
        seconds = time.perf_counter() - start
        if execute is None:
            return Outcome(status="built", reason="no such GPU here", seconds=seconds)
        try:
            held = judge(StockSession(execute), subject.original, "fp32")
        except Exception as error:  # noqa: BLE001 - as above: its artifact does not run
            return Outcome(status="failed", reason=f"does not run: {_one_line(error)}", seconds=seconds)
    return held.model_copy(update={"seconds": seconds})


def load_module(model: str) -> tuple[nn.Module, tuple[Any, ...]]:
    """A module of its own with example inputs: capture may have filled caches of the one it was given."""
    from hycompile import registry

    found = registry.find_model(model)
    if found is None:
        path, _, function = model.partition(":")
        module, args, *_ = getattr(import_module(path), function)()
        return module.eval(), args
    family, name = found
    built = family.build(name)
    return built.module, built.args


def _export(module: nn.Module, args: tuple[Any, ...]) -> Any:
    import torch

    with torch.no_grad():
        return torch.export.export(module, args)


def _executorch(module: nn.Module, args: tuple[Any, ...], folder: Path) -> Run:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from executorch.runtime import Runtime

    edge = to_edge_transform_and_lower(_export(module, args), partitioner=[XnnpackPartitioner()])
    program = Runtime.get().load_program(edge.to_executorch().buffer)

    def run(inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        method = program.load_method("forward")
        if method is None:
            raise RuntimeError("the runtime gives no method")
        return [output.clone() for output in method.execute(list(inputs))]

    return run


def _to_onnx(module: nn.Module, args: tuple[Any, ...], folder: Path) -> Path:
    import torch

    path = folder / "model.onnx"
    with torch.no_grad():
        torch.onnx.export(module, args, path, dynamo=True, verbose=False)
    return path


def _onnx(module: nn.Module, args: tuple[Any, ...], folder: Path) -> Run:
    import onnxruntime
    import torch

    session: Any = onnxruntime.InferenceSession(str(_to_onnx(module, args, folder)), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]

    def run(inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        feed = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        return [torch.from_numpy(value) for value in session.run(None, feed)]

    return run


def coreml_package(module: nn.Module, args: tuple[Any, ...], folder: Path) -> Path:
    """A float32 package converted by coremltools alone, for the deployment target of :data:`DEVICE`."""
    import coremltools as ct

    from hycompile.device import load_target

    model: Any = ct.convert(
        _export(module, args).run_decompositions({}),
        convert_to="mlprogram",
        minimum_deployment_target=getattr(ct.target, load_target(DEVICE).coreml.deployment_target),
        compute_precision=ct.precision.FLOAT32,
        skip_model_load=True,
    )
    path = folder / "model.mlpackage"
    model.save(str(path))
    return path


def _coreml(module: nn.Module, args: tuple[Any, ...], folder: Path) -> Run:
    """Executed by our interpreter, since Core ML does not run here."""
    from hycompile.backends.coreml.interpreter import Machine
    from hycompile.backends.coreml.package import load_functions

    machine = Machine(load_functions(coreml_package(module, args, folder))["main"], "main")

    def run(inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        return machine.run(dict(zip(machine.inputs, inputs, strict=True)), {})

    return run


def _tvm(module: nn.Module, args: tuple[Any, ...], folder: Path) -> Run:
    import torch
    import tvm
    from tvm import relax
    from tvm.relax.frontend.torch import from_exported_program

    imported = from_exported_program(_export(module, args))
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
    build_engine(_to_onnx(module, args, folder), "tensorrt_rtx", capability, "fp32", {})


_TOOLS: dict[str, Callable[..., Run | None]] = {
    "executorch": _executorch,
    "onnx": _onnx,
    "coreml": _coreml,
    "tvm": _tvm,
    "tensorrt_rtx": _tensorrt_rtx,
}


def _one_line(error: BaseException) -> str:
    """Type and innermost message of an error, short enough for a table's footnote."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"[:300]
