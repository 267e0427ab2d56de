"""Integers and booleans as MIL takes them: integer bounds, logic by its own operators, no gathers of booleans."""

from __future__ import annotations

import torch
from torch.fx import GraphModule, Node

from hycompile.builder import Builder, Value
from hycompile.rewrite import erase_dead
from hycompile.schema import bind, is_call, overload

_LOGICAL = {
    "aten.bitwise_not": "aten.logical_not",
    **{f"aten.{name}.Tensor": "aten.logical_and" for name in ("bitwise_and", "__and__")},
    **{f"aten.{name}.Tensor": "aten.logical_or" for name in ("bitwise_or", "__or__")},
    **{f"aten.{name}.Tensor": "aten.logical_xor" for name in ("bitwise_xor", "__xor__")},
}
_DIVISIONS = ("aten.div.Tensor_mode", "aten.div.Scalar_mode")
_GATHERS = ("aten.index_select", "aten.index.Tensor", "aten.gather")


def bound_integers(module: GraphModule) -> int:
    """clamp(n, low, high) = minimum(maximum(n, low), high). coremltools' clamp makes floats of integers."""
    calls = [node for node in module.graph.nodes if is_call(node, "aten.clamp")]
    found = [node for node in calls if not node.meta["val"].is_floating_point()]
    for node in found:
        build, bound = Builder(module, node, "clamp"), bind(node)
        value = Value(bound["self"])
        for operator, limit in (("aten.maximum", bound["min"]), ("aten.minimum", bound["max"])):
            if limit is not None:
                value = build.call(operator, value, torch.tensor(limit, dtype=node.meta["val"].dtype))
        replace(module, node, value)
    return len(found)


def divide_integers(module: GraphModule) -> int:
    """n / m rounded down stays an integer. coremltools divides in floats, of which 16 bits hold integers up to 2048."""
    calls = [node for node in module.graph.nodes if any(is_call(node, kind) for kind in _DIVISIONS)]
    found = [
        node for node in calls if not node.meta["val"].is_floating_point() and bind(node)["rounding_mode"] == "floor"
    ]
    for node in found:
        build, dtype = Builder(module, node, "divide"), node.meta["val"].dtype
        quotient = build.call("aten.floor_divide", *map(_value, node.args))
        replace(module, node, build.call("aten._to_copy", quotient, dtype=dtype))
    return len(found)


def name_logic(module: GraphModule) -> int:
    """a & b = logical_and(a, b) for booleans. coremltools has no converter for the bitwise operators."""
    kinds = {overload(bitwise): logical for bitwise, logical in _LOGICAL.items()}
    calls = [node for node in module.graph.nodes if node.op == "call_function" and node.target in kinds]
    found = [node for node in calls if _is_boolean(node)]
    for node in found:
        replace(module, node, Builder(module, node, "logic").call(kinds[node.target], *map(_value, node.args)))
    return len(found)


def gather_integers(module: GraphModule) -> int:
    """gather(b, i) = gather(int(b), i) != 0. MIL gathers no booleans, as a mask is."""
    calls = [node for node in module.graph.nodes if any(is_call(node, kind) for kind in _GATHERS)]
    found = [node for node in calls if _is_boolean(node)]
    for node in found:
        build = Builder(module, node, "gather")
        source, *rest = node.args
        numbers = build.call("aten._to_copy", _value(source), dtype=torch.int32)
        picked = build.call(node.target, numbers, *rest)  # type: ignore[arg-type]
        replace(module, node, build.call("aten.ne.Scalar", picked, 0))
    return len(found)


def replace(module: GraphModule, old: Node, new: Value) -> None:
    """Let users of a node use a value instead, and erase the node."""
    old.replace_all_uses_with(new.node, propagate_meta=False)
    erase_dead(module, old)


def _is_boolean(node: Node) -> bool:
    return node.meta["val"].dtype == torch.bool


def _value(argument: object) -> object:
    return Value(argument) if isinstance(argument, Node) else argument


def type_zeros(module: GraphModule) -> int:
    """zeros_like(x) of another type than x = zeros of that shape and type. coremltools 9.0 keeps the type of x."""
    found = [
        node
        for node in module.graph.nodes
        if is_call(node, "aten.zeros_like") and node.meta["val"].dtype != node.all_input_nodes[0].meta["val"].dtype
    ]
    for node in found:
        value = node.meta["val"]
        zeros = Builder(module, node, "zeros").call("aten.zeros", list(value.shape), dtype=value.dtype)
        replace(module, node, zeros)
    return len(found)
