"""Which layers are kept in float, or in more bits: those the user names, and those that a budget needs."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase

from hycompile.errors import PassError
from hycompile.passes.quantise.layers import Layer, Survey
from hycompile.passes.quantise.mixture import Mixture, Unit
from hycompile.quantisation.plan import Sensitivity

AUTO = "auto"


@dataclass(frozen=True)
class Names:
    """Patterns for layers, as ``head*,conv2d_3``: of the node's name, or of its weight's."""

    patterns: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Names:
        """The patterns of an option; ``auto`` is none."""
        return cls(tuple(part.strip() for part in text.split(",") if part.strip() not in ("", AUTO)))

    def match(self, layer: Layer) -> bool:
        """Whether one of them fits."""
        return any(_fits(pattern, layer) for pattern in self.patterns)

    def require(self, surveys: Collection[Survey]) -> None:
        """Raise unless each of them fits some layer.

        Raises:
            PassError: one fits none.
        """
        layers = [layer for survey in surveys for layer in survey.layers]
        for pattern in self.patterns:
            if not any(_fits(pattern, layer) for layer in layers):
                known = ", ".join(layer.node.name for layer in layers) or "none"
                raise PassError(f"keep={pattern}", "fits no layer that is quantised", f"these are: {known}")

    def without(self, found: Survey) -> Survey:
        """The survey with the layers that fit left in float."""
        left = [(layer.node, "kept in float, as asked") for layer in found.layers if self.match(layer)]
        return Survey([layer for layer in found.layers if not self.match(layer)], [*found.kept, *left])


def _fits(pattern: str, layer: Layer) -> bool:
    names = [layer.node.name, *([str(layer.weight.target)] if layer.weight is not None else [])]
    return any(fnmatchcase(name, pattern) for name in names)


def by_harm(mixture: Mixture, sensitivity: Sensitivity, per_byte: bool) -> list[Unit]:
    """Layers, the one first whose rounding alone adds most noise; with ``per_byte``, for each value of its weight."""

    def harm(unit: Unit) -> float:
        noise = 10 ** (-alone[unit[0]] / 10)
        return noise / max(1, mixture.units[unit]) if per_byte else noise

    alone = {(layer.method, layer.node): layer.alone for layer in sensitivity.layers}
    return sorted(mixture.units, key=harm, reverse=True)


def fewest(order: list[Unit], holds: Callable[[list[Unit]], bool]) -> list[Unit]:
    """The shortest beginning of ``order`` that holds the budget, all of it if none does.

    More kept layers are taken to hold it no worse, so that few beginnings are tried: 0, 1, 2, 4 ..., then halves.
    """
    low, high = -1, 0
    while high < len(order) and not holds(order[:high]):
        low, high = high, max(1, 2 * high)
    high = min(high, len(order))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(order[:middle]) else (middle, high)
    return order[:high]


def fitting(mixture: Mixture, order: list[Unit], bits: int, kept_bits: int, max_bytes: float) -> list[Unit]:
    """The layers, in this order, that fit into the budget with more bits, each that does not left out.

    Raises:
        PassError: the budget is below what the narrow plan needs.
    """
    size = sum(mixture.units.values()) * bits / 8
    if size > max_bytes:
        raise PassError(
            f"max_mb={max_bytes / 1e6:g}", f"the weights take {size / 1e6:.3g} MB at {bits} bits", "give fewer bits"
        )
    chosen: list[Unit] = []
    for unit in order:
        more = mixture.units[unit] * ((kept_bits or 32) - bits) / 8
        if size + more <= max_bytes:
            chosen.append(unit)
            size += more
    return chosen
