"""Runs engines on the GPU through TensorRT's Python runtime; state stays in GPU memory and is fed to every call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hycompile.backend import OperatorTime
from hycompile.backends.onnx.signature import NEXT, STATE
from hycompile.backends.tensorrt.library import Flavour, last_error, load, make_logger
from hycompile.errors import ArtifactError

_TYPES: dict[str, torch.dtype] = {
    "FLOAT": torch.float32,
    "HALF": torch.float16,
    "BF16": torch.bfloat16,
    "INT64": torch.int64,
    "INT32": torch.int32,
    "INT8": torch.int8,
    "UINT8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass
class _Loaded:
    """One method's engine and its execution context."""

    engine: Any
    context: Any
    inputs: list[str]
    outputs: list[str]


class TensorrtSession:
    """Methods of one artifact over one state.

    Args:
        files: method name to its engine file.
        state: buffer name to its first value; methods share it.
        flavour: the package that built the engines.

    Raises:
        ArtifactError: TensorRT cannot read an engine.
    """

    def __init__(self, files: dict[str, Path], state: dict[str, Tensor], flavour: Flavour) -> None:
        self._trt = load(flavour)
        self._logger = make_logger(self._trt)
        self._runtime = self._trt.Runtime(self._logger)
        self._stream = torch.cuda.Stream()
        self._state = {name: value.cuda() for name, value in state.items()}
        self._methods = {method: self._load(path) for method, path in files.items()}

    def run(self, inputs: Sequence[Tensor], method: str = "forward") -> tuple[Tensor, ...]:
        """Execute one method; outputs come back on the CPU.

        Raises:
            ArtifactError: no such method, inputs it does not take, or a failed execution.
        """
        if method not in self._methods:
            raise ArtifactError(
                f"method {method!r}", "the artifact has no such method", f"it has {', '.join(self._methods)}"
            )
        loaded = self._methods[method]
        # The caller's stream wrote the inputs; this stream must not read them earlier.
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            fed = self._feed(loaded, method, inputs)
            results = self._allocate(loaded)
            if not loaded.context.execute_async_v3(self._stream.cuda_stream):
                raise ArtifactError(
                    f"method {method!r}", f"TensorRT cannot run it ({last_error(self._logger)})", "rebuild it"
                )
        self._stream.synchronize()
        del fed
        for name in loaded.outputs:
            if name.startswith(STATE):
                self._state[name.removeprefix(STATE).removesuffix(NEXT)] = results[name]
        return tuple(results[name].cpu() for name in loaded.outputs if not name.startswith(STATE))

    def state(self) -> dict[str, Tensor]:
        """The current state by buffer name, on the CPU; empty for a program without any."""
        return {name: value.cpu().clone() for name, value in self._state.items()}

    def profile(self, inputs: Sequence[Tensor], runs: int = 8) -> list[OperatorTime] | None:
        """None: TensorRT fuses whole networks into a few compiled regions and keeps no time per operator."""
        return None

    def _load(self, path: Path) -> _Loaded:
        engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if engine is None:
            raise ArtifactError(
                f"{path}", f"TensorRT cannot load it ({last_error(self._logger)})", "rebuild the artifact"
            )
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        reads = [name for name in names if engine.get_tensor_mode(name) == self._trt.TensorIOMode.INPUT]
        return _Loaded(engine, engine.create_execution_context(), reads, [name for name in names if name not in reads])

    def _feed(self, loaded: _Loaded, method: str, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Bind every input. The tensors returned must live until the execution has ended."""
        given = [name for name in loaded.inputs if not name.startswith(STATE)]
        if len(inputs) != len(given):
            raise ArtifactError(f"{len(inputs)} inputs", f"method {method!r} takes {len(given)}", f"give {given}")
        values = dict(zip(given, inputs, strict=True))
        bound: list[Tensor] = []
        for name in loaded.inputs:
            value = self._state[name.removeprefix(STATE)] if name.startswith(STATE) else values[name]
            bound.append(value.to("cuda", self._dtype(loaded, name)).contiguous())
            if not loaded.context.set_input_shape(name, tuple(value.shape)):
                raise ArtifactError(
                    f"input {name!r} of shape {list(value.shape)}",
                    f"the engine takes {list(loaded.engine.get_tensor_shape(name))} ({last_error(self._logger)})",
                    "give inputs as in manifest.json",
                )
            loaded.context.set_tensor_address(name, bound[-1].data_ptr())
        return bound

    def _allocate(self, loaded: _Loaded) -> dict[str, Tensor]:
        """New memory for every output: the state it replaces is still being read."""
        results: dict[str, Tensor] = {}
        for name in loaded.outputs:
            shape = tuple(loaded.context.get_tensor_shape(name))
            results[name] = torch.empty(shape, dtype=self._dtype(loaded, name), device="cuda")
            loaded.context.set_tensor_address(name, results[name].data_ptr())
        return results

    def _dtype(self, loaded: _Loaded, name: str) -> torch.dtype:
        return _TYPES[loaded.engine.get_tensor_dtype(name).name]
