"""The other runtimes, each used by its manual with all its optimisations on, in float32."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.exports import executorch_edge, write_onnx
from benchmarks.latency.contender import Built, Options, Stopwatch
from benchmarks.latency.subject import Run, Subject

if TYPE_CHECKING:
    from torch import Tensor

PEERS_EXTRA = "pip install -c constraints.txt -e '.[peers]'"


class Executorch:
    """``to_edge_transform_and_lower`` with the XNNPACK partitioner."""

    def missing(self, options: Options) -> str | None:
        return None

    def build(self, subject: Subject, folder: Path, options: Options) -> Built:
        from hycompile.backends.executorch.operators import compute_operators, delegate_calls
        from hycompile.backends.executorch.quiet import quiet_executorch

        exported = subject.exported
        with quiet_executorch():
            # Before the clock starts.
            import_module("executorch.backends.xnnpack.partition.xnnpack_partitioner")
            import_module("executorch.exir")
            with Stopwatch() as whole:
                edge = executorch_edge(exported)
                graph = edge.exported_program().graph_module
                # Counted here, in no time, since emitting changes the graph.
                delegates, outside = len(delegate_calls(graph)), len(compute_operators(graph.graph))
                with _pte(folder).open("wb") as stream:
                    edge.to_executorch().write_to_file(stream)
        return Built(whole.seconds, whole.cpu_seconds, delegates=delegates, outside_ops=outside)

    def open(self, subject: Subject, folder: Path, threads: int) -> Run:
        from hycompile.backends.executorch.quiet import quiet_executorch
        from hycompile.backends.executorch.session import ExecutorchSession

        with quiet_executorch():
            return ExecutorchSession(_pte(folder), {"forward": subject.spec()}, threads).run


class OnnxRuntime:
    """``torch.onnx.export(dynamo=True)``, then every graph optimisation of ONNX Runtime."""

    def missing(self, options: Options) -> str | None:
        return None

    def build(self, subject: Subject, folder: Path, options: Options) -> Built:
        import_module("onnxscript")
        with Stopwatch() as whole:
            write_onnx(subject.peer_module, subject.args, folder / "model.onnx")
        return Built(whole.seconds, whole.cpu_seconds)

    def open(self, subject: Subject, folder: Path, threads: int) -> Run:
        import onnxruntime
        import torch

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        path = str(folder / "model.onnx")
        session: Any = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        names = [value.name for value in session.get_inputs()]

        def run(inputs: Sequence[Tensor]) -> Sequence[Tensor]:
            feed = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
            return [torch.from_numpy(value) for value in session.run(None, feed)]

        return run


class OpenVino:
    """Converted from torch's exported program; float32 arithmetic, one stream, tuned for latency."""

    def missing(self, options: Options) -> str | None:
        return None if find_spec("openvino") else f"openvino not installed: {PEERS_EXTRA}"

    def build(self, subject: Subject, folder: Path, options: Options) -> Built:
        openvino = _openvino()
        exported = subject.exported
        with Stopwatch() as whole:
            model = openvino.convert_model(exported)
            openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)
        return Built(whole.seconds, whole.cpu_seconds)

    def open(self, subject: Subject, folder: Path, threads: int) -> Run:
        import torch

        settings: dict[str, Any] = {
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
        }
        request: Any = _openvino().Core().compile_model(folder / "model.xml", "CPU", settings).create_infer_request()

        def run(inputs: Sequence[Tensor]) -> Sequence[Tensor]:
            results = request.infer([value.numpy() for value in inputs], share_inputs=True, share_outputs=True)
            return [torch.from_numpy(value) for value in results.values()]

        return run


def _openvino() -> Any:
    """By name, as type checkers look at environments without it too."""
    return import_module("openvino")


def _pte(folder: Path) -> Path:
    return folder / "model.pte"
