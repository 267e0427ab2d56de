"""Dynamic sizes as TensorRT wants them: a smallest, a usual and a largest shape for every input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._sympy.value_ranges import bound_sympy

from hycompile.errors import Unsupported
from hycompile.program import Method


@dataclass(frozen=True)
class ShapeRange:
    """Shapes of one input. An engine runs anything between ``smallest`` and ``largest`` and is tuned for ``usual``."""

    smallest: tuple[int, ...]
    usual: tuple[int, ...]
    largest: tuple[int, ...]


def shape_ranges(method: Method) -> dict[str, ShapeRange]:
    """Ranges of the inputs that have dynamic sizes, by input name; ``usual`` is the example's shape.

    Raises:
        Unsupported: a size has no upper bound.
    """
    values = [node.meta["val"] for node in method.graph.graph.find_nodes(op="placeholder")]
    if all(isinstance(size, int) for value in values for size in value.shape):
        return {}
    # Only a fresh export has the ranges as they were asked for: the graph's own symbols exclude sizes 0 and 1.
    exported = method.export()
    nodes = {node.name: node for node in exported.graph.find_nodes(op="placeholder")}
    inputs = [nodes[str(name)] for name in exported.graph_signature.user_inputs]
    found: dict[str, ShapeRange] = {}
    for name, node, example in zip(method.input_names(), inputs, method.flat_inputs(), strict=True):
        bounds = [_bounds(name, size, exported.range_constraints) for size in node.meta["val"].shape]
        smallest, largest = (tuple(bound[end] for bound in bounds) for end in (0, 1))
        if smallest != largest:
            found[name] = ShapeRange(smallest, tuple(example.shape), largest)
    return found


def _bounds(name: str, size: Any, ranges: dict[Any, Any]) -> tuple[int, int]:
    if not isinstance(size, torch.SymInt):
        return size, size
    bounds: Any = bound_sympy(size.node.expr, ranges)
    if not bounds.upper.is_finite or bounds.upper >= 2**31:
        raise Unsupported(
            f"dynamic size {size} of input {name!r}",
            "has no upper bound, and a TensorRT engine is built for a range",
            "capture with torch.export.Dim(name, min=..., max=...)",
        )
    return max(1, int(bounds.lower)), int(bounds.upper)
