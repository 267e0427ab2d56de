"""The same simulation in less time: values stay floats where they are rounded, and weights become floats again once.

The outputs are the same numbers. Conversions to int8 and back took longer than the layers between them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg

from hycompile.attributes import put_tensor, tensor_at
from hycompile.program import Method
from hycompile.quantisation.nodes import DEQUANTISE, QUANTISE, is_dequantise
from hycompile.rewrite import erase_dead
from hycompile.schema import bind, is_call

_GRID = ("scale", "zero_point", "quant_min", "quant_max")


def quick(method: Method) -> Method:
    """A copy that computes the same; the method itself stays as it is."""
    found = method.copy()
    for node in list(found.graph.graph.nodes):
        if not is_dequantise(node):
            continue
        source = node.all_input_nodes[0]
        if source.op == "get_attr":
            _constant(found.graph, node)
        elif is_call(source, QUANTISE) and is_call(node, DEQUANTISE) and _alike(source, node):
            _pair(found.graph, source, node)
    found.graph.recompile()
    return found


def rounded(value: Tensor, scale: float, zero_point: int, low: int, high: int) -> Tensor:
    """What quantising and dequantising give: whole numbers of this size are floats, so nothing is lost without int8."""
    return (value * (1.0 / scale)).round_().clamp_(low - zero_point, high - zero_point).mul_(scale)


def _alike(quantise: Node, dequantise: Node) -> bool:
    """Whether both are of one grid, and of float32."""
    numbers, undone = bind(quantise), bind(dequantise)
    given: torch.dtype = numbers["input"].meta["val"].dtype
    same = all(numbers[name] == undone[name] for name in _GRID)
    return same and given == dequantise.meta["val"].dtype == torch.float32


def _pair(module: GraphModule, quantise: Node, dequantise: Node) -> None:
    numbers = bind(quantise)
    with module.graph.inserting_before(dequantise):
        both = module.graph.call_function(rounded, (numbers["input"], *(numbers[name] for name in _GRID)))
    dequantise.replace_all_uses_with(both)
    erase_dead(module, dequantise)


def _constant(module: GraphModule, dequantise: Node) -> None:
    """Weights from whole numbers, once instead of in every call."""
    args, kwargs = map_arg((dequantise.args, dequantise.kwargs), lambda source: tensor_at(module, str(source.target)))
    assert callable(dequantise.target)
    name = f"{dequantise.name}_in_float"
    put_tensor(module, name, dequantise.target(*args, **kwargs))
    with module.graph.inserting_before(dequantise):
        weight = module.graph.get_attr(name)
    dequantise.replace_all_uses_with(weight)
    erase_dead(module, dequantise)
