"""Runs a library in TVM's virtual machine; state and weights are kept here and passed to every call."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import tvm
from torch import Tensor
from tvm import relax

from hycompile.artifact import MethodSpec
from hycompile.backend import OperatorTime
from hycompile.backends.tvm.interface import Interface
from hycompile.backends.tvm.profile import operator_times
from hycompile.errors import ArtifactError

ALIGNMENT = 64  # bytes; the generated code assumes it of every tensor
_ALL_CORES, _THREADS_MODE = 0, 0


class TvmSession:
    """The methods of one library over one state.

    Args:
        library: path of ``model.so``.
        interface: how its functions are called.
        specs: the methods' signatures, which name the types of inputs and outputs.
        weights: by name in ``weights.safetensors``.
        state: buffer name to first value; methods share it.
        threads: threads of TVM's pool, which is one for the whole process; all cores if not given.

    Raises:
        ArtifactError: the library is truncated, of another processor, or no Relax executable.
    """

    def __init__(
        self,
        library: Path,
        interface: Interface,
        specs: dict[str, MethodSpec],
        weights: dict[str, Tensor],
        state: dict[str, Tensor],
        threads: int | None = None,
    ) -> None:
        self._library, self._interface, self._specs = library, interface, specs
        self._module = _load(library)
        self._vm = _machine(self._module)
        self._weights = {name: _view(value) for name, value in weights.items()}
        self._state = {name: value.clone() for name, value in state.items()}
        tvm.get_global_func("runtime.config_threadpool")(_THREADS_MODE, threads or _ALL_CORES)

    def run(self, inputs: Sequence[Tensor], method: str = "forward") -> tuple[Tensor, ...]:
        """Execute one method and keep the state it leaves.

        Raises:
            ArtifactError: no such method, or inputs of another number, shape or kind than it takes.
        """
        results = self._call(self._vm, inputs, method)
        interface = self._interface.methods[method]
        for name, value in zip(interface.state_out, results[interface.outputs :], strict=True):
            self._state[name] = value.clone()
        given = {value.data_ptr() for value in (*inputs, *self._state.values())}
        outputs = [value.clone() if value.data_ptr() in given else value for value in results[: interface.outputs]]
        return tuple(
            value.to(getattr(torch, spec.dtype))
            for value, spec in zip(outputs, self._specs[method].outputs, strict=True)
        )

    def state(self) -> dict[str, Tensor]:
        """The current state by buffer name; empty for a program without any."""
        return {name: value.clone() for name, value in self._state.items()}

    def profile(self, inputs: Sequence[Tensor], runs: int = 8) -> list[OperatorTime]:
        """Time per fused operator of ``forward`` (or the first method); state is left as it is."""
        method = "forward" if "forward" in self._interface.methods else next(iter(self._interface.methods))
        vm = _machine(self._module)
        return operator_times(vm, lambda: self._call(vm, inputs, method), runs)

    def _call(self, vm: Any, inputs: Sequence[Tensor], method: str) -> list[Tensor]:
        if method not in self._interface.methods:
            names = ", ".join(self._interface.methods)
            raise ArtifactError(f"method {method!r}", "not in the library", f"it has {names}")
        interface, spec = self._interface.methods[method], self._specs[method]
        if len(inputs) != len(spec.inputs):
            names = [value.name for value in spec.inputs]
            raise ArtifactError(f"{len(inputs)} inputs", f"method {method!r} takes {len(names)}", f"give {names}")
        state = [_view(self._state[name]) for name in interface.state_in]
        weights = [self._weights[name] for name in interface.weights]
        try:
            results = vm[method](*map(_given, inputs, interface.inputs), *state, *weights)
        except (RuntimeError, ValueError, TypeError) as error:
            raise ArtifactError(
                f"method {method!r}",
                f"the library refuses the inputs ({_last_line(error)})",
                "give them as in manifest.json",
            ) from error
        return [torch.from_dlpack(value) for value in results]


def _machine(module: Any) -> Any:
    cpu: Any = tvm.cpu()
    return relax.VirtualMachine(module, cpu)


def _given(tensor: Tensor, dtype: str) -> Any:
    """An input in the type the library takes; integers are never turned into floats, nor the reverse."""
    wanted: torch.dtype = getattr(torch, dtype)
    return _view(tensor.to(wanted) if tensor.is_floating_point() and wanted.is_floating_point else tensor)


def _view(tensor: Tensor) -> Any:
    """The tensor's own memory as a TVM tensor, copied only where it is strided or badly aligned."""
    plain = tensor.detach().cpu().contiguous()
    if plain.data_ptr() % ALIGNMENT:
        plain = plain.clone()
    return tvm.runtime.from_dlpack(plain)


def _load(library: Path) -> Any:
    _expect_whole_elf(library)
    try:
        module = tvm.runtime.load_module(str(library))
    except (RuntimeError, ValueError, OSError) as error:
        raise ArtifactError(
            f"{library}", f"TVM cannot load it ({_last_line(error)})", "rebuild the artifact"
        ) from error
    if not module.implements_function("vm_load_executable"):
        raise ArtifactError(f"{library}", "holds no Relax executable", "rebuild the artifact")
    return module


def _expect_whole_elf(library: Path) -> None:
    """A truncated library would kill the process with a bus error when it is mapped: its section table tells first."""
    try:
        with library.open("rb") as stream:
            header = stream.read(64)
    except OSError as error:
        raise ArtifactError(f"{library}", f"cannot be read ({error.strerror})", "rebuild the artifact") from error
    if len(header) < 64 or header[:5] != b"\x7fELF\x02":
        raise ArtifactError(f"{library}", "not a 64-bit ELF library", "rebuild the artifact")
    (table,) = struct.unpack_from("<Q", header, 0x28)
    entry_size, entries = struct.unpack_from("<HH", header, 0x3A)
    if table + entry_size * entries > library.stat().st_size:
        raise ArtifactError(f"{library}", "truncated", "rebuild the artifact")


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
