"""A ``.pte`` loaded into the ExecuTorch runtime of this host."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hycompile.artifact import MethodSpec, TensorSpec
from hycompile.backend import OperatorTime
from hycompile.backends.executorch.native import native_log, runtime, set_threads
from hycompile.backends.executorch.profile import read_trace
from hycompile.backends.executorch.quiet import quiet_executorch
from hycompile.errors import ArtifactError


class ExecutorchSession:
    """Runs the methods of one file, which share weights and state.

    Args:
        path: the ``.pte``.
        methods: flat signatures, from the manifest.
        threads: size of the runtime's thread pool; None for its own choice.

    Raises:
        ArtifactError: the file is missing, truncated, not a ``.pte``, or needs what this runtime lacks.
    """

    def __init__(self, path: Path, methods: Mapping[str, MethodSpec], threads: int | None) -> None:
        self._path, self._specs, self._threads = path, methods, threads
        self._file, self._methods = _load(path, methods, threads, traced=False)
        self._ran: set[str] = set()

    def run(self, inputs: Sequence[Tensor], method: str = "forward") -> tuple[Tensor, ...]:
        """Execute one method. Floating inputs are cast to the file's types, outputs to the manifest's.

        Raises:
            ArtifactError: no such method, inputs that do not fit its signature, or a kernel that fails.
        """
        spec, loaded = self._specs.get(method), self._methods.get(method)
        if spec is None or loaded is None:
            raise ArtifactError(f"method {method!r} of {self._path}", "no such method", f"it has {sorted(self._specs)}")
        outputs = self._execute(self._fit(inputs, method, loaded), method, loaded)
        return tuple(_cast(value, wanted.dtype) for value, wanted in zip(outputs, spec.outputs, strict=True))

    def _execute(self, inputs: list[Tensor], method: str, loaded: Any) -> Any:
        # Listening to the runtime costs time: only the first call does, where a kernel that cannot do its job fails.
        lines: list[str] = []
        try:
            with nullcontext(lines) if method in self._ran else native_log() as lines:
                outputs = loaded(inputs)
        except RuntimeError as error:
            reason = next((line for line in lines if line), str(error).splitlines()[0])
            raise ArtifactError(
                f"method {method!r} of {self._path}", f"failed ({reason})", "see its obstacles"
            ) from error
        self._ran.add(method)
        return outputs

    def state(self) -> dict[str, Tensor]:
        """Copies of the current state, by the Program's buffer names."""
        found: dict[str, Tensor] = {}
        for name, spec in self._specs.items():
            for buffer in spec.mutates:
                found[buffer] = self._methods[name].get_attribute(buffer).clone()
        return found

    def profile(self, inputs: Sequence[Tensor], runs: int = 8) -> list[OperatorTime]:
        """Time per operator of ``forward``, slowest first, inside and outside the delegates.

        Runs a second, traced copy of the program from its initial state; the state held here stays as it is.
        """
        file, methods = _load(self._path, self._specs, self._threads, traced=True)
        fitted = self._fit(inputs, "forward", methods["forward"])
        for _ in range(runs):
            methods["forward"](fitted)
        with tempfile.TemporaryDirectory() as folder, quiet_executorch():
            trace = Path(folder, "run.etdp")
            file.write_etdump_result_to_file(str(trace), str(Path(folder, "run.bin")))
            return read_trace(trace)

    def _fit(self, inputs: Sequence[Tensor], method: str, loaded: Any) -> list[Tensor]:
        wanted = self._specs[method].inputs
        if len(inputs) != len(wanted):
            raise ArtifactError(
                f"{len(inputs)} inputs for method {method!r}", f"it takes {len(wanted)}", _signature(wanted)
            )
        for value, spec in zip(inputs, wanted, strict=True):
            if not _fits(value, spec):
                given = f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
                raise ArtifactError(f"input {spec.name!r}, {given}", "does not fit", _signature(wanted))
        meta = loaded.method_meta()
        return [
            value.to(_DTYPES[meta.input_tensor_meta(index).dtype()]).contiguous() for index, value in enumerate(inputs)
        ]


# torch::executor::ScalarType, runtime/core/portable_type/scalar_type.h; complex and quantised types are no inputs here.
_DTYPES = {
    0: torch.uint8,
    1: torch.int8,
    2: torch.int16,
    3: torch.int32,
    4: torch.int64,
    5: torch.float16,
    6: torch.float32,
    7: torch.float64,
    11: torch.bool,
    15: torch.bfloat16,
}


def _load(
    path: Path, methods: Mapping[str, MethodSpec], threads: int | None, *, traced: bool
) -> tuple[Any, dict[str, Any]]:
    """Load the file and *all* its methods: loading one later would set the shared state back to its initial values."""
    lines: list[str] = []
    try:
        with native_log() as lines:
            set_threads(threads)
            binding = runtime()
            verify = binding.Verification.InternalConsistency
            file = binding._load_program(str(path), enable_etdump=traced, program_verification=verify)
            return file, {name: file.load_method(name) for name in methods}
    except RuntimeError as error:
        reason = lines[-1] if lines else str(error).splitlines()[0]
        raise ArtifactError(f"{path}", f"ExecuTorch cannot load it ({reason})", "rebuild the artifact") from error


def _cast(value: Tensor, dtype: str) -> Tensor:
    wanted = getattr(torch, dtype)
    return value.to(wanted) if value.is_floating_point() and wanted.is_floating_point else value


def _fits(value: Tensor, spec: TensorSpec) -> bool:
    """Equal fixed sizes, and the same type or both floating."""
    wanted = getattr(torch, spec.dtype)
    sizes = value.dim() == len(spec.shape) and all(
        isinstance(size, str) or size == given for size, given in zip(spec.shape, value.shape, strict=True)
    )
    return sizes and (value.dtype == wanted or (value.is_floating_point() and wanted.is_floating_point))


def _signature(specs: Sequence[TensorSpec]) -> str:
    return "give " + ", ".join(f"{spec.name}: {spec.dtype}[{', '.join(map(str, spec.shape))}]" for spec in specs)
