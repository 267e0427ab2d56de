"""Every contender by name."""

from __future__ import annotations

from benchmarks.latency.contender import Contender
from benchmarks.latency.litert import LiteRt
from benchmarks.latency.ours import Hycompile
from benchmarks.latency.peers import Executorch, OnnxRuntime, OpenVino
from benchmarks.latency.torch_peers import Eager, TorchCompile

BY_NAME: dict[str, Contender] = {
    "hycompile-executorch": Hycompile("executorch"),
    "hycompile-onnx": Hycompile("onnx"),
    "hycompile-tvm": Hycompile("tvm"),
    "executorch": Executorch(),
    "onnxruntime": OnnxRuntime(),
    "openvino": OpenVino(),
    "litert": LiteRt(),
    "torch-compile": TorchCompile(),
    "eager": Eager(),
}
