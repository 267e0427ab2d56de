"""Whole numbers in arithmetic on floating tensors: ExecuTorch makes int64 tensors of them and casts at run time."""

from __future__ import annotations

from torch import Tensor
from torch.fx import Node

from hycompile.program import Program
from hycompile.schema import is_call

_ARITHMETIC = ("aten.add.Tensor", "aten.sub.Tensor", "aten.mul.Tensor", "aten.div.Tensor")


def float_scalars(program: Program) -> int:
    """x / 2 = x / 2.0 for floating x; returns how many numbers were changed."""
    nodes = [node for method in program.methods.values() for node in method.graph.graph.nodes]
    return sum(_float(node) for node in nodes if is_call(node, *_ARITHMETIC))


def _float(node: Node) -> bool:
    tensor, other = node.args[0], node.args[1]
    value = tensor.meta["val"] if isinstance(tensor, Node) else None
    if type(other) is not int or not isinstance(value, Tensor) or not value.is_floating_point():
        return False
    node.args = (tensor, float(other), *node.args[2:])
    return True
