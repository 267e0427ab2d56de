"""Operators between layers that runtimes compute on whole numbers, as they do layers."""

from __future__ import annotations

from torch import Tensor
from torch.fx import Node

from hycompile.quantisation.nodes import FUSED, is_dequantise, is_layer, is_quantise
from hycompile.schema import bind, is_call

# One value in, one out: a table of 256 numbers, whatever the function.
TABLES = (
    *("aten.sigmoid", "aten.tanh", "aten.hardswish", "aten.gelu"),
    *("aten.relu", "aten.relu6", "aten.hardtanh"),
)
_TWO = ("aten.add.Tensor", "aten.sub.Tensor", "aten.mul.Tensor")
_SUMS = ("aten.add.Tensor",)


def operands(node: Node) -> tuple[Node, ...] | None:
    """The values an operator reads, each once, if runtimes have it on whole numbers; None if they do not.

    Sums, differences and products of two values, concatenation, averages of whole images, and functions of one value.
    The tanh form of GELU is none: no runtime has it as one operator.
    """
    if is_call(node, *_TWO):
        bound = bind(node)
        read = [bound["self"], bound["other"]]
        if bound.get("alpha", 1) != 1:
            return None
    elif is_call(node, "aten.cat"):
        read = list(bind(node)["tensors"])
    elif _is_table(node) or _averages_images(node):
        read = [node.all_input_nodes[0]]
    else:
        return None
    return tuple(dict.fromkeys(read)) if all(map(_is_value, read)) else None


def end(node: Node) -> Node:
    """The last operator that runtimes compute together with a layer or operator: the value to be rounded is behind it.

    Layers take relu and clamps along, sums relu.
    """
    users = list(node.users)
    fused = FUSED if operands(node) is None else ("aten.relu",) if is_call(node, *_SUMS) else ()
    return users[0] if len(users) == 1 and fused and is_call(users[0], *fused) else node


def is_whole(node: Node) -> bool:
    """Whether a node of a quantised graph is computed on whole numbers: all it reads and all it gives is rounded."""
    if is_layer(node):
        rounded = True
    else:
        read = operands(node)
        rounded = read is not None and all(map(is_dequantise, read))
    users = end(node).users
    return rounded and bool(users) and all(map(is_quantise, users))


def _is_table(node: Node) -> bool:
    return is_call(node, *TABLES) and not (is_call(node, "aten.gelu") and bind(node)["approximate"] != "none")


def _averages_images(node: Node) -> bool:
    if is_call(node, "aten.adaptive_avg_pool2d"):
        bound = bind(node)
        return list(bound["output_size"]) == [1, 1] and bound["self"].meta["val"].ndim == 4
    if not is_call(node, "aten.mean.dim"):
        return False
    bound = bind(node)
    given, dims = bound["self"].meta["val"], bound["dim"] or []
    return given.ndim == 4 and bound["dtype"] is None and sorted(dim % 4 for dim in dims) == [2, 3]


def _is_value(given: object) -> bool:
    """Floats computed at run time: numbers and constants would need grids of their own."""
    if not isinstance(given, Node) or given.op == "get_attr":
        return False
    value = given.meta["val"]
    return isinstance(value, Tensor) and value.is_floating_point()
