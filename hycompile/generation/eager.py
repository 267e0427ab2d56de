"""The uncompiled model behind the interface of a backend's session: the reference that artifacts are compared with."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from hycompile.backend import OperatorTime
from hycompile.errors import ArtifactError
from hycompile.parity import execute
from hycompile.program import Program


class EagerSession:
    """Runs the methods of a Program in PyTorch over one state, and leaves the Program's own state as it is."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._state: dict[str, Tensor] = {}

    def run(self, inputs: Sequence[Tensor], method: str = "forward") -> tuple[Tensor, ...]:
        """Execute one method on flat inputs.

        Raises:
            ArtifactError: no such method.
        """
        found = self._program.methods.get(method)
        if found is None:
            known = ", ".join(self._program.methods)
            raise ArtifactError(f"method {method!r}", "the program has no such method", f"it has {known}")
        result = execute(found, inputs, state=self._state)
        self._state |= {name: result.state[name] for name in found.mutated()}
        return result.outputs

    def state(self) -> dict[str, Tensor]:
        """What has been written so far, by buffer name."""
        return {name: value.clone() for name, value in self._state.items()}

    def profile(self, inputs: Sequence[Tensor], runs: int = 8) -> list[OperatorTime] | None:
        """None: PyTorch's own profiler tells more."""
        return None
