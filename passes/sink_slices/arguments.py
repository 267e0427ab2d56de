"""Arguments of a node together with the axis their rows lie on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.fx import Node

from hycompile.schema import parameters

# Schema name of an argument to its axis of rows; for a list of tensors one axis for all, or one or None for each.
# Arguments left out are needed whole.
Axes = dict[str, int | list[int | None]]


def map_arguments(
    node: Node, axes: Axes, change: Callable[[Node, int | None], Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Positional and keyword arguments of ``node``, each node among them replaced by ``change(node, axis or None)``."""
    names = [parameter.name for parameter in parameters(node.target)]

    def changed(value: Any, axis: Any) -> Any:
        if isinstance(value, (list, tuple)):
            each = axis if isinstance(axis, list) else [axis] * len(value)
            return [changed(element, place) for element, place in zip(value, each, strict=True)]
        return change(value, axis) if isinstance(value, Node) else value

    args = [changed(value, axes.get(names[index] if names else str(index))) for index, value in enumerate(node.args)]
    return args, {name: changed(value, axes.get(name)) for name, value in node.kwargs.items()}
