"""Grids that TensorRT does not have."""

from __future__ import annotations

from hycompile.backend import Obstacle
from hycompile.program import Method, source_line
from hycompile.quantisation.nodes import QUANTISE
from hycompile.schema import bind, is_call


def zero_points(method: Method, way_out: str) -> list[Obstacle]:
    """Values on a grid with a zero point, of which TensorRT has none; without, they would need one more bit."""
    nodes = [node for node in method.graph.graph.nodes if is_call(node, QUANTISE) and bind(node)["zero_point"] != 0]
    if not nodes:
        return []
    reason = "TensorRT takes symmetric grids only, and these have a zero point"
    return [Obstacle("quantised values", len(nodes), reason, way_out, source_line(nodes[0]))]
