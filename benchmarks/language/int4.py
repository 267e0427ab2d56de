"""8da4w: linears with weights of 4 bits in groups of 32, and activations of 8 bits quantised as they come.

The weights are quantised by torchao's ``Int8DynamicActivationIntxWeightConfig``, and the operators are those that
``torch.export`` makes of it, which XNNPACK's partitioner knows. They are put into the graph behind all passes, so that
the passes see plain linears. Nothing is calibrated and nothing is left out: this is a contender, not a recipe.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from hycompile.attributes import storage_key
from hycompile.builder import Builder
from hycompile.fake import infer
from hycompile.program import Program, constant
from hycompile.schema import bind, is_call
from hycompile.sharing import share

GROUP = 32
_Parts = tuple[Tensor, Tensor, Tensor]


def quantise_linears(program: Program) -> int:
    """Quantise every linear of constant weight whose rows are a multiple of 32, in place; returns how many.

    Linears of one weight share the quantised one; a table that an embedding reads too stays in float32 for it.
    """
    known: dict[object, _Parts] = {}
    found = sum(_quantise(method.graph, known) for method in program.methods.values())
    share(program.methods.values())
    return found


def _quantise(module: GraphModule, known: dict[object, _Parts]) -> int:
    linears = [node for node in module.graph.nodes if is_call(node, "aten.linear")]
    found = 0
    for node in linears:
        arguments = bind(node)
        weight = constant(module, arguments["weight"])
        if weight is None or weight.ndim != 2 or weight.shape[1] % GROUP:
            continue
        key = storage_key(weight)
        if key not in known:
            known[key] = _parts(weight)
        _replace(module, node, arguments, known[key])
        found += 1
    module.graph.eliminate_dead_code()
    module.recompile()
    return found


def _parts(weight: Tensor) -> _Parts:
    """Whole numbers in -8..7, scales and zero points of a weight [out, in]."""
    from torchao.quantization import Int8DynamicActivationIntxWeightConfig, quantize_
    from torchao.quantization.granularity import PerGroup

    # The type checker does not know it.
    dtypes: Any = torch
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    with torch.no_grad():
        linear.weight.copy_(weight)
    config = Int8DynamicActivationIntxWeightConfig(weight_dtype=dtypes.int4, weight_granularity=PerGroup(GROUP))
    quantize_(linear, config)
    quantised: Any = linear.weight
    return quantised.qdata, quantised.scale, quantised.zero_point


def _replace(module: GraphModule, node: Node, arguments: dict[str, Any], parts: _Parts) -> None:
    build, x = Builder(module, node, "int4"), arguments["input"]
    row = [*[1] * (x.meta["val"].ndim - 1), x.meta["val"].shape[-1]]
    range_ = (torch.int8, -128, 127)
    ops = torch.ops.torchao
    chosen = build.call(ops.choose_qparams_affine.default, x, "ASYMMETRIC", row, *range_, None, None, torch.int8)
    with module.graph.inserting_before(node):
        scale, zero = (module.graph.call_function(operator.getitem, (chosen.node, index)) for index in range(2))
    for item in (scale, zero):
        infer(module, item, build.mode)
    small = build.call(ops.quantize_affine.default, x, row, scale, zero, *range_)
    wide = build.call(ops.dequantize_affine.default, small, row, scale, zero, *range_)
    numbers, scales, zeros = (build.constant(part) for part in parts)
    weight = build.call(ops.dequantize_affine.default, numbers, [1, GROUP], scales, zeros, torch.int8, -8, 7)
    result = build.call("aten.linear", wide, weight, arguments["bias"])
    node.replace_all_uses_with(result.node)
    module.graph.erase_node(node)
