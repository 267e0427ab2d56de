"""How far a quantised Program is from the float Program it was made of, on its calibration set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.fx import Node

from hycompile.parity import play
from hycompile.program import Program, Step
from hycompile.quantisation.nodes import is_layer
from hycompile.quantisation.plan import Comparison, LayerNoise

# What stands for infinity, which JSON does not have.
_MOST_DB = 300.0


@dataclass
class Noise:
    """Squared signal and noise, summed up."""

    signal: float = 0.0
    noise: float = 0.0

    def add(self, reference: Tensor, found: Tensor) -> None:
        reference = reference.double()
        self.signal += float(reference.square().sum())
        self.noise += float((found.double() - reference).square().sum())

    @property
    def sqnr(self) -> float:
        """dB, within 300 of 0: that much where nothing differs, minus that where there is no signal or no number."""
        if self.noise == 0:
            return _MOST_DB
        ratio = self.signal / self.noise
        return max(-_MOST_DB, min(_MOST_DB, 10 * math.log10(ratio))) if ratio > 0 else -_MOST_DB


class Agreement:
    """Sums up what outputs of two Programs have in common."""

    def __init__(self) -> None:
        self._noise, self._worst, self._same, self._rows, self._calls = Noise(), 0.0, 0, 0, 0

    def add(self, reference: Sequence[Tensor], found: Sequence[Tensor]) -> None:
        """Take the flat outputs of one call of each."""
        self._calls += 1
        for index, (known, given) in enumerate(zip(reference, found, strict=True)):
            if not known.is_floating_point() or known.numel() == 0:
                continue
            self._noise.add(known, given)
            largest = float(known.abs().max())
            self._worst = max(self._worst, float((given - known).abs().max()) / (largest or 1.0))
            if index == 0 and known.ndim > 0:
                self._same += int((known.argmax(-1) == given.argmax(-1)).sum())
                self._rows += known.numel() // known.shape[-1]

    def compared(self, layers: tuple[LayerNoise, ...] = ()) -> Comparison:
        """The sums as figures."""
        share = 100 * self._same / self._rows if self._rows else 100.0
        return Comparison(
            calls=self._calls,
            output_sqnr=self._noise.sqnr,
            worst_error=self._worst,
            agreement=share,
            layers=layers,
        )


def compare_layers(original: Program, quantised: Program, steps: Sequence[Step]) -> Comparison:
    """Run both Programs through the same calls and compare every quantised layer and the outputs."""
    wanted = {
        (name, node.name)
        for name, method in quantised.methods.items()
        for node in method.graph.graph.nodes
        if is_layer(node)
    }
    known: dict[tuple[str, str], Tensor] = {}
    noise: dict[tuple[str, str], Noise] = {}
    total = Agreement()

    def keep(method: str, node: Node, value: object) -> None:
        if (method, node.name) in wanted and isinstance(value, Tensor):
            known[method, node.name] = value

    def hold(method: str, node: Node, value: object) -> None:
        if (method, node.name) in wanted and isinstance(value, Tensor):
            noise.setdefault((method, node.name), Noise()).add(known.pop((method, node.name)), value)

    references = play(original, steps, keep)
    results = play(quantised, steps, hold)
    for reference, result in zip(references, results, strict=True):
        total.add(reference.outputs, result.outputs)
    return total.compared(
        tuple(LayerNoise(method=method, node=node, sqnr=found.sqnr) for (method, node), found in noise.items())
    )
