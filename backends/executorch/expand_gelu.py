"""The tanh form of GELU, spelt out."""

from __future__ import annotations

import math

from torch.fx import GraphModule

from hycompile.builder import Builder
from hycompile.program import Program
from hycompile.schema import bind, is_call


def expand_gelu(program: Program) -> int:
    """gelu(x, tanh) = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))); returns how many were expanded.

    XNNPACK's visitor (``op_gelu.py``) drops ``approximate`` and computes the exact form: 1e-3 off in maxvit_tiny_tf.
    """
    return sum(_expand(method.graph) for method in program.methods.values())


def _expand(module: GraphModule) -> int:
    tanh_forms = [
        node for node in module.graph.nodes if is_call(node, "aten.gelu") and bind(node)["approximate"] == "tanh"
    ]
    for node in tanh_forms:
        build, x = Builder(module, node, "gelu"), node.args[0]
        cube = build.call("aten.mul.Tensor", build.call("aten.mul.Tensor", x, x), x)
        inner = build.call("aten.add.Tensor", x, build.call("aten.mul.Tensor", cube, 0.044715))
        tanh = build.call("aten.tanh", build.call("aten.mul.Tensor", inner, math.sqrt(2 / math.pi)))
        half = build.call("aten.mul.Tensor", x, 0.5)
        node.replace_all_uses_with(build.call("aten.mul.Tensor", half, build.call("aten.add.Tensor", tanh, 1.0)).node)
        module.graph.erase_node(node)
    module.recompile()
    return len(tanh_forms)
