"""Runs ONNX models in ONNX Runtime on the CPU; state is kept here and fed to every call."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnxruntime
import torch
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors  # pyright: ignore[reportAttributeAccessIssue]
from torch import Tensor

from hycompile.backend import OperatorTime
from hycompile.backends.onnx.profile import operator_times
from hycompile.backends.onnx.signature import NEXT, STATE
from hycompile.errors import ArtifactError

_LOADING = (
    ort_errors.InvalidProtobuf,
    ort_errors.InvalidGraph,
    ort_errors.InvalidArgument,
    ort_errors.NoSuchFile,
    ort_errors.NoModel,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
    ort_errors.Fail,
)
_RUNNING = (ort_errors.InvalidArgument, ort_errors.NotImplemented, ort_errors.RuntimeException, ort_errors.Fail)
_TYPES: dict[str, torch.dtype] = {
    "tensor(float)": torch.float32,
    "tensor(float16)": torch.float16,
    "tensor(double)": torch.float64,
    "tensor(int64)": torch.int64,
    "tensor(int32)": torch.int32,
    "tensor(int8)": torch.int8,
    "tensor(uint8)": torch.uint8,
    "tensor(bool)": torch.bool,
}


class OrtSession:
    """Methods of one artifact over one state.

    Args:
        files: method name to its ``.onnx`` file.
        state: buffer name to its first value; methods share it.
        threads: intra-operator threads; all cores if not given.

    Raises:
        ArtifactError: a file is missing, truncated or not a model ONNX Runtime can run.
    """

    def __init__(self, files: dict[str, Path], state: dict[str, Tensor], threads: int | None = None) -> None:
        self._files, self._threads = files, threads
        self._state = {name: value.clone() for name, value in state.items()}
        self._sessions = {method: self._load(path) for method, path in files.items()}

    def run(self, inputs: Sequence[Tensor], method: str = "forward") -> tuple[Tensor, ...]:
        """Execute one method; floating inputs are converted to the type the file declares.

        Raises:
            ArtifactError: no such method, or inputs of another number, shape or kind than it takes.
        """
        session = self._session(method)
        names = [output.name for output in session.get_outputs()]
        results = dict(zip(names, self._execute(session, method, self._feed(session, method, inputs)), strict=True))
        outputs = tuple(
            torch.from_numpy(np.asarray(value)) for name, value in results.items() if not name.startswith(STATE)
        )
        for name, value in results.items():
            if name.startswith(STATE):
                self._state[name.removeprefix(STATE).removesuffix(NEXT)] = torch.from_numpy(np.asarray(value))
        return outputs

    def state(self) -> dict[str, Tensor]:
        """The current state by buffer name; empty for a program without any."""
        return {name: value.clone() for name, value in self._state.items()}

    def profile(self, inputs: Sequence[Tensor], runs: int = 8) -> list[OperatorTime]:
        """Time per ONNX operator of ``forward`` (the first method, if there is no such one); state is left as it is."""
        method = "forward" if "forward" in self._files else next(iter(self._files))
        with tempfile.TemporaryDirectory() as folder:
            session = self._load(self._files[method], Path(folder) / "profile")
            feed = self._feed(session, method, inputs)
            for _ in range(runs):
                self._execute(session, method, feed)
            return operator_times(Path(session.end_profiling()))

    def _load(self, path: Path, profile: Path | None = None) -> Any:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 4
        if self._threads is not None:
            options.intra_op_num_threads = self._threads
        if profile is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(profile)
        try:
            return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except _LOADING as error:
            raise ArtifactError(f"{path}", f"ONNX Runtime cannot load it ({error})", "rebuild the artifact") from error

    def _session(self, method: str) -> Any:
        if method not in self._sessions:
            raise ArtifactError(
                f"method {method!r}", "the artifact has no such method", f"it has {', '.join(self._sessions)}"
            )
        return self._sessions[method]

    def _feed(self, session: Any, method: str, inputs: Sequence[Tensor]) -> dict[str, Any]:
        declared = session.get_inputs()
        given = [value for value in declared if not value.name.startswith(STATE)]
        if len(inputs) != len(given):
            raise ArtifactError(
                f"{len(inputs)} inputs",
                f"method {method!r} takes {len(given)}",
                f"give {[value.name for value in given]}",
            )
        feed = {value.name: _array(tensor, value.type) for value, tensor in zip(given, inputs, strict=True)}
        for value in declared:
            if value.name.startswith(STATE):
                feed[value.name] = self._state[value.name.removeprefix(STATE)].numpy()
        return feed

    def _execute(self, session: Any, method: str, feed: dict[str, Any]) -> list[Any]:
        try:
            return cast("list[Any]", session.run(None, feed))
        except _RUNNING as error:
            raise ArtifactError(
                f"method {method!r}", f"ONNX Runtime cannot run it ({error})", "give inputs as in manifest.json"
            ) from error


def _array(tensor: Tensor, kind: str) -> Any:
    wanted = _TYPES.get(kind, tensor.dtype)
    converted = tensor.to(wanted) if tensor.is_floating_point() and wanted.is_floating_point else tensor
    return converted.detach().cpu().contiguous().numpy()
