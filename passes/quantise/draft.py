"""What a plan is made of: the ranges of one method as observers leave them, for a search to change."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.fx import Node

from hycompile.passes.quantise.layers import Layer
from hycompile.passes.quantise.ranges import Range


@dataclass
class Draft:
    """Ranges of weights and values; whatever has none stays in float.

    Args:
        layers: in graph order.
        weights: by name of the tensor.
        values: by node; only those whose range is their own.
        sources: every value that is rounded, and the one whose range it takes.
        dynamic: values whose ranges are found at run time: nothing to choose, and float to a search.
    """

    layers: list[Layer]
    weights: dict[str, Range]
    values: dict[Node, Range]
    sources: dict[Node, Node]
    dynamic: tuple[Node, ...] = ()

    def range_of(self, point: Node) -> Range | None:
        """The range that a value is rounded by; None if it stays in float."""
        source = self.sources.get(point)
        return None if source is None else self.values[source]

    def rounded(self, point: Node, value: Tensor) -> Tensor:
        """A value on its grid."""
        found = self.range_of(point)
        return value if found is None else found.round(value)

    def rounded_weight(self, layer: Layer, weight: Tensor) -> Tensor:
        """The weight of a layer on its grid."""
        assert layer.weight is not None
        return self.weights[str(layer.weight.target)].round(weight)

    def readers(self, source: Node) -> list[Layer]:
        """The layers that read a value of this range."""
        return [layer for layer in self.layers if any(self.sources.get(point) is source for point in layer.inputs)]

    def users(self, weight: str) -> list[Layer]:
        """The layers that compute with a weight."""
        return [layer for layer in self.layers if layer.weight is not None and str(layer.weight.target) == weight]
