"""Quantised graphs in the form that XNNPACK's partitioner takes."""

from __future__ import annotations

from torch.fx import GraphModule, Node

from hycompile.attributes import put_tensor, tensor_at
from hycompile.program import Program
from hycompile.quantisation.nodes import DEQUANTISE_GROUPS, is_dequantise, is_dynamic, is_quantise
from hycompile.schema import is_call


def keep_in_float(program: Program) -> int:
    """Compute layers in float whose result is not rounded, on weights that are; returns how many.

    XNNPACK multiplies whole numbers only where the result becomes whole numbers again, by weights with a scale for each
    channel at most, or where the range of the input is found at run time. Its partitioner refuses other layers, but
    takes the operators they are made of, and reads their weights as if they were floats.
    """
    return sum(_keep_in_float(method.graph) for method in program.methods.values())


def repeat_dequantise(program: Program) -> int:
    """Give every operator on whole numbers dequantise nodes of its own; returns how many were added.

    The partitioner takes such an operator together with the dequantise nodes before it and the quantise node behind it.
    A dequantise node that two groups want ties them into a cycle; one that an operator in float reads, too, gives it
    whole numbers. Operators in float share a node: the value is converted once for all of them. The same holds for the
    nodes that find a range at run time, so that they are repeated, too.
    """
    return sum(_repeat(method.graph) for method in program.methods.values())


def _keep_in_float(module: GraphModule) -> int:
    kept = 0
    for weight in [node for node in module.graph.nodes if is_dequantise(node) and _constant(node)]:
        grouped = is_call(weight, DEQUANTISE_GROUPS)
        layers = [user for user in weight.users if not reads_rows(user) and (grouped or not _rounded(user))]
        if layers:
            known = weight.meta["val"]
            operands = [tensor_at(module, str(x.target)) if isinstance(x, Node) else x for x in weight.args]
            value = weight.target(*operands, **weight.kwargs)  # type: ignore[operator]
            name = f"{weight.all_input_nodes[0].target}_rounded"
            put_tensor(module, name, value)
            with module.graph.inserting_before(weight):
                constant = module.graph.get_attr(name)
            constant.meta["val"] = known
            for layer in layers:
                layer.replace_input_with(weight, constant)
            kept += len(layers)
    module.graph.eliminate_dead_code()
    module.recompile()
    return kept


def reads_rows(layer: Node) -> bool:
    """Whether a layer reads whole numbers whose range is found at run time."""
    return any(map(is_dynamic, layer.all_input_nodes))


def _constant(node: Node) -> bool:
    return all(source.op == "get_attr" for source in node.all_input_nodes)


def _rounded(layer: Node) -> bool:
    """Whether a layer's result, behind the activation XNNPACK computes with it, is read by one quantise node alone."""
    (last, *others) = layer.users
    if not others and is_call(last, "aten.relu", "aten.hardtanh"):
        (last, *others) = last.users
    return not others and is_quantise(last)


def _repeat(module: GraphModule) -> int:
    graph, added = module.graph, 0
    for node in list(graph.nodes):
        if not is_dequantise(node):
            continue
        users = list(node.users)
        whole = [user for user in users if _grouped(user)]
        for user in whole if len(whole) < len(users) else whole[1:]:
            with graph.inserting_before(user):
                own = _copy_rows(node) if is_dynamic(node) else graph.node_copy(node)
            user.replace_input_with(node, own)
            added += 1
    if added:
        graph.lint()
        module.recompile()
    return added


def _copy_rows(dequantise: Node) -> Node:
    """The nodes from the choice of a range to the dequantise node once more, before the place of insertion."""
    graph = dequantise.graph
    quantise, scale, zero, *_ = dequantise.all_input_nodes
    known: dict[Node, Node] = {}
    for node in (scale.all_input_nodes[0], scale, zero, quantise, dequantise):
        known[node] = graph.node_copy(node, lambda source: known.get(source, source))
    return known[dequantise]


def _grouped(user: Node) -> bool:
    """Whether all that an operator reads at run time is rounded, and what it gives is: the partitioner may group it."""
    values = [source for source in user.all_input_nodes if source.op != "get_attr"]
    readers = [reader for last in (user, *user.users) for reader in last.users]
    return all(map(is_dequantise, values)) and any(map(is_quantise, [*user.users, *readers]))
