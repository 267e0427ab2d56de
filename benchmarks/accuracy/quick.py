"""The same simulation in less time: rounding and what undoes it as one operator, weights back from whole numbers.

Every bit of the outputs is the same. A value that is rounded is read and written once instead of eight times.
"""

from __future__ import annotations

import torch
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg

from hycompile.attributes import put_tensor, tensor_at
from hycompile.program import Method
from hycompile.quantisation.nodes import DEQUANTISE, QUANTISE, is_dequantise
from hycompile.rewrite import erase_dead
from hycompile.schema import bind, is_call

_BOTH = torch.ops.aten.fake_quantize_per_tensor_affine.default


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


def _alike(quantise: Node, dequantise: Node) -> bool:
    """Whether both are of the same float32 grid, and one operator takes the scale's inverse to be the same float."""
    numbers, undone = bind(quantise), bind(dequantise)
    names = ("scale", "zero_point", "quant_min", "quant_max")
    if [numbers[name] for name in names] != [undone.get(name) for name in names]:
        return False
    scale = torch.tensor(numbers["scale"], dtype=torch.float32)
    given: torch.dtype = numbers["input"].meta["val"].dtype
    exact = float(scale) == numbers["scale"] and bool(1.0 / scale == torch.tensor(1.0 / numbers["scale"]))
    return exact and given == dequantise.meta["val"].dtype == torch.float32


def _pair(module: GraphModule, quantise: Node, dequantise: Node) -> None:
    numbers = bind(quantise)
    arguments = tuple(numbers[name] for name in ("input", "scale", "zero_point", "quant_min", "quant_max"))
    with module.graph.inserting_before(dequantise):
        both = module.graph.call_function(_BOTH, arguments)
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
