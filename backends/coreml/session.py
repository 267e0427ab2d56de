"""A Core ML package run by the reference interpreter."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from hycompile.artifact import MethodSpec
from hycompile.backend import OperatorTime
from hycompile.backends.coreml.interpreter import Machine
from hycompile.errors import ArtifactError


class InterpreterSession:
    """Runs a package's functions in torch on the CPU, operator by operator, over state that starts at zero.

    It checks the conversion: operators, weights, shapes, state. It does not show Apple's accumulation in 16 bits, nor
    what the Neural Engine takes, nor anything about speed.

    Args:
        machines: the function of each method.
        methods: each method's signature, as in the manifest.
        states: Core ML's state names to the Program's buffer names.
        widths: of buffers that the package holds wider than the Program, the Program's last dimension.
        threads: torch's threads while it runs; as they are, if None.
    """

    def __init__(
        self,
        machines: Mapping[str, Machine],
        methods: Mapping[str, MethodSpec],
        states: Mapping[str, str],
        widths: Mapping[str, int],
        threads: int | None = None,
    ) -> None:
        self._machines, self._methods, self._threads = machines, methods, threads
        self._names, self._widths = states, widths
        self._state = {
            name: torch.zeros([size or 0 for size in declared.shape], dtype=declared.dtype)
            for machine in machines.values()
            for name, declared in machine.states.items()
        }
        unnamed = sorted(self._state.keys() - states.keys())
        if unnamed:
            raise ArtifactError(
                f"states {unnamed}", "are in the package but not in its manifest", "rebuild the artifact"
            )

    def run(self, inputs: Sequence[Tensor], method: str = "forward") -> tuple[Tensor, ...]:
        """Execute one method on flat inputs, cast to the types the package declares; outputs have the Program's types.

        Raises:
            ArtifactError: an unknown method, inputs that do not fit, or a package that contradicts itself.
            Unsupported: an operator form the interpreter does not know.
        """
        if method not in self._machines:
            raise ArtifactError(f"method {method!r}", "not in this package", f"it has {sorted(self._machines)}")
        machine, spec = self._machines[method], self._methods[method]
        if len(inputs) != len(machine.inputs):
            raise ArtifactError(
                f"{len(inputs)} inputs", f"{method!r} takes {len(machine.inputs)}", "give one tensor per input"
            )
        with _threads(self._threads):
            results = machine.run(dict(zip(machine.inputs, inputs, strict=True)), self._state)
        return tuple(_as_declared(value, output.dtype) for value, output in zip(results, spec.outputs, strict=True))

    def state(self) -> dict[str, Tensor]:
        """The current state by the Program's buffer names."""
        named = {self._names[name]: value for name, value in self._state.items()}
        return {name: value[..., : self._widths.get(name)].clone() for name, value in named.items()}

    def profile(self, inputs: Sequence[Tensor], runs: int = 8) -> list[OperatorTime] | None:
        """None: the interpreter's time says nothing about a device."""
        return None


def _as_declared(value: Tensor, dtype: str) -> Tensor:
    return value.to(getattr(torch, dtype))


@contextmanager
def _threads(count: int | None) -> Generator[None]:
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
