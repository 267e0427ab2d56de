"""The normal form: the one shape of graph that every rule and backend is written against.

From a ``torch.export`` program:

- functional ATen operators only; conv, linear, layer norm, attention stay whole, and so does batch norm
  (``aten.batch_norm``, one output, never the three-output ``_native_batch_norm_legit_no_training``);
- views are ``aten.reshape``, concatenations ``aten.cat``; ``clone``, ``alias``, ``detach``, inactive dropout and no-op
  casts are gone;
- weights are ``get_attr`` nodes, one a name; state writes are ``aten.copy_`` nodes at the very end that nothing
  uses, and neither an output nor what is written is a view of written state;
- every node carries its value's shape and dtype in ``meta["val"]``.
"""

from __future__ import annotations

import operator
from typing import Any, cast

import torch
from torch.export import ExportedProgram
from torch.fx import Graph, GraphModule, Node

from hycompile.attributes import state_writes, tensor_at
from hycompile.fake import fake_mode, infer
from hycompile.quiet import quiet_torch
from hycompile.schema import bind, is_call, is_view, overload

_IDENTITIES = (
    "aten.clone",
    "aten.alias",
    "aten.detach",
    "aten.lift_fresh_copy",
    "aten.contiguous",
    "aten.dropout",
)
_CHECKS = ("aten._assert_tensor_metadata", "aten._assert_async.msg", "aten._assert_scalar")
_VIEWS = ("aten.view", "aten._unsafe_view", "aten.reshape")
_CATS = ("aten.concat", "aten.concatenate")
_BATCH_NORM_ARGUMENTS = ("input", "weight", "bias", "running_mean", "running_var", "training", "momentum", "eps")


def normal_form(exported: ExportedProgram) -> GraphModule:
    """The unlifted graph of ``exported`` in normal form; weights are shared with it, not copied."""
    with quiet_torch():
        unlifted: Any = exported.run_decompositions({}).module(check_guards=False)
    graph: Graph = unlifted.graph
    module = GraphModule(_used_tensors_of(unlifted, graph), graph)
    normalise(module)
    return module


def normalise(module: GraphModule) -> int:
    """Bring a graph into normal form in place; returns the number of nodes changed. Idempotent."""
    graph, changed = module.graph, 0
    mode = fake_mode(graph)
    changed += _unify_attributes(graph)
    for node in list(graph.nodes):
        if node.op == "get_attr" and "val" not in node.meta:
            infer(module, node, mode)
        changed += _normalise_node(graph, node)
    for write in state_writes(module).values():
        written: Node = write.args[1]  # type: ignore[assignment]
        write.meta.setdefault("val", written.meta["val"])
        changed += len(write.users)
        write.replace_all_uses_with(written)
    changed += _detach_from_state(module)
    graph.eliminate_dead_code(is_impure_node=lambda node: node.is_impure() or is_call(node, "aten.copy_"))
    graph.lint()
    module.recompile()
    return changed


def _unify_attributes(graph: Graph) -> int:
    """One ``get_attr`` node a name, so that a buffer is written exactly if its node has a ``copy_`` user."""
    first: dict[str, Node] = {}
    duplicates = [
        node for node in graph.find_nodes(op="get_attr") if first.setdefault(str(node.target), node) is not node
    ]
    for node in duplicates:
        node.replace_all_uses_with(first[str(node.target)])
        graph.erase_node(node)
    return len(duplicates)


def _used_tensors_of(module: Any, graph: Graph) -> dict[str, Any]:
    names = {str(node.target) for node in graph.nodes if node.op == "get_attr"}
    found = {name: tensor_at(module, name) for name in sorted(names)}
    return {name: value.detach() for name, value in found.items()}


def _normalise_node(graph: Graph, node: Node) -> bool:
    if is_call(node, *_CHECKS):
        graph.erase_node(node)
        return True
    if is_call(node, *_IDENTITIES) or _is_noop_cast(node):
        source = node.args[0]
        if not isinstance(source, Node) or _keeps_state_apart(node) or bind(node).get("train"):
            return False
        node.replace_all_uses_with(source)
        graph.erase_node(node)
        return True
    if is_call(node, *_VIEWS) and node.target is not overload("aten.reshape"):
        node.target = overload("aten.reshape")
        return True
    if is_call(node, *_CATS):
        node.target = overload("aten.cat")
        return True
    if is_call(node, "aten._native_batch_norm_legit_no_training", "aten._native_batch_norm_legit.no_stats"):
        return _single_output_batch_norm(graph, node)
    return False


def _is_noop_cast(node: Node) -> bool:
    if not is_call(node, "aten._to_copy", "aten.to.dtype"):
        return False
    before, after = node.args[0].meta.get("val"), node.meta.get("val")  # type: ignore[union-attr]
    return (
        isinstance(before, torch.Tensor)
        and isinstance(after, torch.Tensor)
        and before.dtype == after.dtype
        and before.device == after.device
    )


def _keeps_state_apart(node: Node) -> bool:
    """A copy of a written buffer that is returned or written to another one must stay: a write would change it."""
    late = any(user.op == "output" or is_call(user, "aten.copy_") for user in node.users)
    return late and _written_buffer(node.args[0]) is not None


def _written_buffer(value: object) -> Node | None:
    """The written buffer that ``value`` is, or is a view of."""
    while isinstance(value, Node) and value.op == "call_function":
        if not (value.target is operator.getitem or is_view(value.target)):
            return None
        value = value.args[0]
    if not isinstance(value, Node) or value.op != "get_attr":
        return None
    return value if any(is_call(user, "aten.copy_") for user in value.users) else None


def _detach_from_state(module: GraphModule) -> int:
    """Views of a written buffer that are returned or written are cloned before any write: the old value counts."""
    writes = list(state_writes(module).values())
    late = [(module.graph.output_node(), node) for node in module.graph.output_node().all_input_nodes]
    late += [(write, cast("Node", write.args[1])) for write in writes if write.args[1] is not write.args[0]]
    changed = 0
    for user, node in late:
        if _written_buffer(node) is None:
            continue
        with module.graph.inserting_before(writes[0]):
            copy = module.graph.call_function(overload("aten.clone"), (node,))
        copy.meta["val"] = node.meta["val"]
        if user.op == "output":
            user.replace_input_with(node, copy)
        else:
            user.args = (user.args[0], copy)
        changed += 1
    return changed


def _single_output_batch_norm(graph: Graph, node: Node) -> bool:
    """``getitem(_native_batch_norm_legit_no_training(...), 0)`` becomes ``batch_norm(..., training=False)``.

    A batch norm that keeps no statistics takes those of its batch, ``training=True``.
    """
    a = {"running_mean": None, "running_var": None, "training": False} | bind(node)
    with graph.inserting_before(node):
        single = graph.call_function(
            overload("aten.batch_norm"),
            (*(a[name] for name in _BATCH_NORM_ARGUMENTS), False),
        )
    single.meta = {key: value for key, value in node.meta.items() if key != "val"}
    single.meta["val"] = node.meta["val"][0]
    for user in list(node.users):
        if user.args[1] == 0:
            user.replace_all_uses_with(single)
        if not user.users:
            graph.erase_node(user)
    if node.users:
        graph.erase_node(single)
        return False
    graph.erase_node(node)
    return True
