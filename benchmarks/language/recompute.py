"""SambaY without a shared memory: each gated memory unit computes the readout m for itself, the same function.

This is what a compiler makes of it that inlines what each reader needs: projection, convolution, step sizes and scan
of the layer that gives m, from that layer's input and the state before it.
"""

from __future__ import annotations

from torch import Tensor, nn

from hycompile.models.language.layers import ResidualUnit
from hycompile.models.language.memory import GatedMemory
from hycompile.models.language.mixer import Mixer, Shared, Span, State


class Giver(Mixer):
    """The layer that gives m: as before, but it remembers what it was called with, for the readers of this call."""

    def __init__(self, mixer: Mixer) -> None:
        super().__init__()
        self.mixer = mixer
        self._input: Tensor | None = None
        self._before: State = {}

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        return self.mixer.state_shapes()

    def prefill(self, x: Tensor, state: State, span: Span, shared: Shared) -> tuple[Tensor, State]:
        # The state is written in place before any reader runs.
        self._input, self._before = x, {name: value.clone() for name, value in state.items()}
        return self.mixer.prefill(x, state, span, shared)

    def again(self, span: Span) -> Shared:
        """m, computed once more."""
        assert self._input is not None
        shared = Shared()
        self.mixer.prefill(self._input, self._before, span, shared)
        return shared


class Recomputing(Mixer):
    """A gated memory unit that has m computed for itself."""

    def __init__(self, unit: GatedMemory, giver: Giver) -> None:
        super().__init__()
        self.unit = unit
        # In a list, the giver's weights do not become this layer's too.
        self._giver = [giver]

    def prefill(self, x: Tensor, state: State, span: Span, shared: Shared) -> tuple[Tensor, State]:
        return self.unit.prefill(x, state, span, self._giver[0].again(span))


def recompute_memory(decoder: nn.Module) -> None:
    """Let every gated memory unit of a SambaY compute m for itself, in place."""
    units = [layer for layer in decoder.modules() if isinstance(layer, ResidualUnit)]
    (place,) = (index for index, unit in enumerate(units) if unit.mixer.__dict__.get("gives") and _has_memory(unit))
    giver = Giver(units[place].mixer)
    units[place].mixer = giver
    for unit in units:
        if isinstance(unit.mixer, GatedMemory):
            unit.mixer = Recomputing(unit.mixer, giver)
    decoder.eval()


def _has_memory(unit: ResidualUnit) -> bool:
    """Whether what a layer gives is a readout, not keys and values."""
    return "keys" not in unit.mixer.state_shapes()
