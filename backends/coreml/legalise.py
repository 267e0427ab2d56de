"""Rewrites that turn what coremltools' converter cannot take, or gets wrong, into an equal form that it can."""

from __future__ import annotations

import math
import re

import torch
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

from hycompile.attributes import put_tensor, state_writes, tensor_at
from hycompile.backends.coreml.attention import take_in_swaps
from hycompile.backends.coreml.grids import narrow_zero_points
from hycompile.backends.coreml.rms_norm import expand_rms_norm
from hycompile.backends.coreml.types import (
    bound_integers,
    divide_integers,
    gather_integers,
    name_logic,
    replace,
    type_zeros,
)
from hycompile.builder import Builder, Value
from hycompile.program import Method
from hycompile.quantisation.int8 import as_int8
from hycompile.ranks import rank, reduce_ranks
from hycompile.schema import bind, is_call

MAX_RANK = 5


def legalise(method: Method) -> dict[str, int]:
    """Apply every rewrite of this backend to a method's graph, in place; returns hits by name, of those that hit."""
    module = method.graph
    hits = {
        "as_int8": as_int8(module),
        "narrow_zero_points": narrow_zero_points(module),
        "expand_gelu_tanh": expand_gelu_tanh(module),
        "expand_rms_norm": expand_rms_norm(module),
        "divide_for_reciprocal": divide_for_reciprocal(module),
        "take_in_swaps": take_in_swaps(module),
        "bound_integers": bound_integers(module),
        "divide_integers": divide_integers(module),
        "name_logic": name_logic(module),
        "gather_integers": gather_integers(module),
        "type_zeros": type_zeros(module),
        "matrix_operands": matrix_operands(module),
        "reduce_ranks": reduce_ranks(module, MAX_RANK),
        "separate_outputs": separate_outputs(module),
        "rename_states": rename_states(method),
    }
    return {name: count for name, count in hits.items() if count}


def expand_gelu_tanh(module: GraphModule) -> int:
    """gelu(x, tanh) = x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).

    coremltools 9.0 drops the keyword ``approximate`` without a word and converts to the exact gelu; in the expanded
    form its own passes find the approximate one again.
    """
    found = [n for n in module.graph.nodes if is_call(n, "aten.gelu") and bind(n)["approximate"] == "tanh"]
    for node in found:
        build, x = Builder(module, node, "gelu"), Value(bind(node)["self"])
        cube = build.call("aten.pow.Tensor_Scalar", x, 3)
        inner = build.call("aten.add.Tensor", x, build.call("aten.mul.Tensor", cube, 0.044715))
        bent = build.call("aten.tanh", build.call("aten.mul.Tensor", inner, math.sqrt(2 / math.pi)))
        half = build.call("aten.mul.Tensor", x, 0.5)
        replace(module, node, build.call("aten.mul.Tensor", half, build.call("aten.add.Tensor", bent, 1.0)))
    return len(found)


def divide_for_reciprocal(module: GraphModule) -> int:
    """reciprocal(x) = 1 / x. coremltools 9.0 makes it MIL's ``inverse``, which adds 1e-4 to x unless told otherwise."""
    found = [node for node in module.graph.nodes if is_call(node, "aten.reciprocal")]
    for node in found:
        build, x = Builder(module, node, "reciprocal"), Value(bind(node)["self"])
        replace(module, node, build.call("aten.div.Tensor", torch.ones(1, dtype=torch.float64), x))
    return len(found)


def matrix_operands(module: GraphModule) -> int:
    """matmul(x, v) = squeeze(matmul(x, v as a column)); a vector on the left is a row. MIL multiplies matrices only."""
    found = [n for n in module.graph.nodes if is_call(n, "aten.matmul") and 1 in map(rank, n.all_input_nodes)]
    for node in found:
        build, bound = Builder(module, node, "matmul"), bind(node)
        left, right = Value(bound["self"]), Value(bound["other"])
        row, column = rank(left.node) == 1, rank(right.node) == 1
        left = build.call("aten.unsqueeze", left, 0) if row else left
        right = build.call("aten.unsqueeze", right, 1) if column else right
        result = build.call("aten.matmul", left, right)
        result = build.call("aten.squeeze.dim", result, -1) if column else result
        replace(module, node, build.call("aten.squeeze.dim", result, -1 if column else -2) if row else result)
    return len(found)


def separate_outputs(module: GraphModule) -> int:
    """Each output a value of its own: a Core ML function cannot return an input, a constant or one value twice.

    Such an output becomes a concatenation of one tensor, which no pass of coremltools removes.
    """
    output = module.graph.output_node()
    returned, spec = pytree.tree_flatten(output.args[0])
    seen: set[Node] = set()
    hits = 0
    for index, node in enumerate(returned):
        if node.op != "call_function" or node in seen or is_call(node, "aten.clone"):
            returned[index] = _copied(module, output, node)
            hits += 1
        seen.add(node)
    if hits:
        output.args = (pytree.tree_unflatten(returned, spec),)
        module.recompile()
    return hits


def _copied(module: GraphModule, output: Node, node: Node) -> Node:
    # Before the state writes at the end, so that a returned state shows its old value.
    writes = list(state_writes(module).values())
    build = Builder(module, writes[0] if writes else output, "output")
    build.before = writes[0] if writes else output
    value = Value(node)
    if value.shape:
        return build.call("aten.cat", [value], 0).node
    return build.call("aten.squeeze.dim", build.call("aten.cat", [build.call("aten.unsqueeze", value, 0)], 0), 0).node


def state_names(method: Method) -> dict[str, str]:
    """Core ML's name of each state the method writes, to the Program's: an identifier no input has."""
    names: dict[str, str] = {}
    for buffer in method.mutated():
        name = re.sub(r"\W", "_", buffer)
        while name in names or name in method.input_names():
            name += "_state"
        names[name] = buffer
    return names


def rename_states(method: Method) -> int:
    """Give every written buffer the name its Core ML state will have; returns how many names changed."""
    module, changed = method.graph, 0
    for name, buffer in state_names(method).items():
        if name == buffer:
            continue
        put_tensor(module, name, tensor_at(module, buffer))
        # Left behind, the old name would win: torch.export gives one tensor one name.
        owner, _, leaf = buffer.rpartition(".")
        delattr(module.get_submodule(owner), leaf)
        for node in module.graph.find_nodes(op="get_attr"):
            if node.target == buffer:
                node.target = name
        changed += 1
    if changed:
        module.recompile()
    return changed
