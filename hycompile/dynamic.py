"""The ``dynamic_shapes`` argument that gives an exported program again, read back from its symbolic sizes."""

from __future__ import annotations

from typing import Any

from torch import SymInt, Tensor
from torch.export import Dim, ExportedProgram
from torch.utils import _pytree as pytree


def dynamic_shapes_of(exported: ExportedProgram, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Per input (keyword inputs last, in order), axis to ``Dim`` with its bounds; None if all sizes are fixed.

    Sizes derived from others become ``Dim.AUTO``.
    """
    nodes = {node.name: node for node in exported.graph.find_nodes(op="placeholder")}
    values = [nodes[str(name)].meta["val"] for name in exported.graph_signature.user_inputs]
    dims: dict[str, Any] = {}
    leaves = [_axes(exported, value, dims) for value in values]
    if not dims:
        return None
    _, spec = pytree.tree_flatten((args, kwargs))
    shapes, keyword_shapes = pytree.tree_unflatten(leaves, spec)
    return (*shapes, *keyword_shapes.values())


def _axes(exported: ExportedProgram, value: Any, dims: dict[str, Any]) -> dict[int, Any] | None:
    if not isinstance(value, Tensor):
        return None
    found = {axis: _dim(exported, size, dims) for axis, size in enumerate(value.shape) if isinstance(size, SymInt)}
    return found or None


def _dim(exported: ExportedProgram, size: Any, dims: dict[str, Any]) -> Any:
    expression = size.node.expr
    if not expression.is_symbol:
        return dims.setdefault(str(expression), Dim.AUTO)
    bounds = exported.range_constraints[expression]
    maximum = None if bounds.upper > 2**31 else int(bounds.upper)
    return dims.setdefault(str(expression), Dim(f"d_{expression}", min=int(bounds.lower), max=maximum))
