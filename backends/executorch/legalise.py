"""What ExecuTorch gets wrong is rewritten before it sees the graph."""

from __future__ import annotations

from torch.fx import GraphModule, Node

from hycompile.attributes import put_tensor, storage_key, tensor_at
from hycompile.backends.executorch.partitioners import state_names
from hycompile.builder import Builder
from hycompile.program import Program
from hycompile.schema import is_call, operator_name


def untie_weights(program: Program) -> int:
    """Give every convolution, and every linear before a batch norm, weights of its own; returns how many were copied.

    XNNPACK changes these weights under names made from theirs. Two batch norms folded into one tied weight or bias
    overwrite each other (``fuse_batch_norm.py``), so that the first layer silently computes with the second's; a tied
    ``conv1d`` weight is reshaped for its first user only (``conv1d_unsqueeze_pass.py``). Equal data is stored once in
    the file, whatever its names, so the copies cost no space there.
    """
    state = state_names(program)
    return sum(_untie(method.graph, state) for method in program.methods.values())


def flatten_softmax(program: Program) -> int:
    """Compute every softmax over the last of four axes on three; returns how many.

    Between convolutions XNNPACK keeps four-dimensional tensors channels-last, and its softmax normalises over the axis
    that lies last in memory: behind a convolution (EfficientFormerV2's talking heads) that is the channels, and the
    result is wrong without an error. A reshape asks for plain order, and so gives softmax the axis it means.
    """
    return sum(_flatten_softmax(method.graph) for method in program.methods.values())


def _flatten_softmax(module: GraphModule) -> int:
    flattened = 0
    for node in list(module.graph.nodes):
        if not is_call(node, "aten.softmax.int") or len(node.meta["val"].shape) != 4 or node.args[1] not in (-1, 3):
            continue
        batch, heads, rows, columns = node.meta["val"].shape
        build = Builder(module, node, "softmax")
        flat = build.call("aten.reshape", node.args[0], [batch * heads, rows, columns])
        result = build.call("aten.reshape", build.call("aten.softmax.int", flat, -1), [batch, heads, rows, columns])
        node.replace_all_uses_with(result.node)
        module.graph.erase_node(node)
        flattened += 1
    module.recompile()
    return flattened


def _untie(module: GraphModule, state: frozenset[str]) -> int:
    seen: set[object] = set()
    copied = 0
    for user in [node for node in module.graph.nodes if _changes_its_weights(node)]:
        for value in [node for node in user.all_input_nodes if node.op == "get_attr" and node.target not in state]:
            key = storage_key(tensor_at(module, str(value.target)))
            if key in seen:
                _own(module, user, value)
                copied += 1
            seen.add(key)
    module.recompile()
    return copied


def _changes_its_weights(node: Node) -> bool:
    if node.op != "call_function":
        return False
    folded = any(is_call(user, "aten.batch_norm") for user in node.users)
    return operator_name(node).startswith("aten.conv") or (folded and is_call(node, "aten.linear"))


def _own(module: GraphModule, user: Node, value: Node) -> None:
    name = f"{value.target}_of_{user.name}"
    put_tensor(module, name, tensor_at(module, str(value.target)).clone())
    with module.graph.inserting_before(user):
        own = module.graph.get_attr(name)
    own.meta["val"] = value.meta["val"]
    user.replace_input_with(value, own)
