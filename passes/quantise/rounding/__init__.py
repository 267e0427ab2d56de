"""How weights become whole numbers on a grid that is given."""

from __future__ import annotations

from hycompile.passes.quantise.rounding.layerwise import round_layerwise

__all__ = ["ROUNDINGS", "round_layerwise"]

# Each to the nearest, as the plan is written into the graph; or layer by layer, so that outputs stay.
ROUNDINGS = ("nearest", "gptq")
