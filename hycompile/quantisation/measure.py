"""How far a quantised Program is from the float Program it was made of, on its calibration set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.fx import Node

from hycompile.parity import play
from hycompile.program import Method, Program, Step
from hycompile.quantisation.nodes import is_dequantise
from hycompile.schema import is_call

_PRODUCTS = ("aten.matmul", "aten.bmm", "aten.mm")


@dataclass(frozen=True)
class LayerNoise:
    """Signal-to-noise ratio of one quantised value, dB: all that the rounding before it did to it, too."""

    method: str
    node: str
    sqnr: float


@dataclass(frozen=True)
class Comparison:
    """What the calibration set tells; no accuracy, for it has no labels.

    Args:
        output_sqnr: signal-to-noise ratio over all outputs and samples, dB.
        worst_error: the largest error of one sample, relative to that sample's largest output.
        agreement: share of rows of the first output whose largest entry is in the same place, percent.
        layers: in graph order.
    """

    output_sqnr: float
    worst_error: float
    agreement: float
    layers: tuple[LayerNoise, ...]

    def worst(self, count: int) -> list[LayerNoise]:
        """The layers with the lowest ratio."""
        return sorted(self.layers, key=lambda layer: layer.sqnr)[:count]


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
        """dB; infinite where nothing differs, minus infinity where there is only noise or it is no number."""
        if self.noise == 0:
            return math.inf
        ratio = self.signal / self.noise
        return 10 * math.log10(ratio) if ratio > 0 else -math.inf


class Agreement:
    """Sums up what outputs of two Programs have in common."""

    def __init__(self) -> None:
        self._noise, self._worst, self._same, self._rows = Noise(), 0.0, 0, 0

    def add(self, reference: Sequence[Tensor], found: Sequence[Tensor]) -> None:
        """Take the flat outputs of one call of each."""
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
        return Comparison(self._noise.sqnr, self._worst, share, layers)


def layers(method: Method) -> list[Node]:
    """The nodes of a method that read a weight of whole numbers, or multiply two rounded values."""

    def weight(node: Node) -> bool:
        return is_dequantise(node) and node.all_input_nodes[0].op == "get_attr"

    return [
        node
        for node in method.graph.graph.nodes
        if any(map(weight, node.all_input_nodes))
        or (is_call(node, *_PRODUCTS) and all(map(is_dequantise, node.all_input_nodes)))
    ]


def compare_layers(original: Program, quantised: Program, steps: Sequence[Step]) -> Comparison:
    """Run both Programs through the same calls and compare every quantised layer and the outputs."""
    wanted = {(name, node.name) for name, method in quantised.methods.items() for node in layers(method)}
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
    return total.compared(tuple(LayerNoise(method, node, found.sqnr) for (method, node), found in noise.items()))
