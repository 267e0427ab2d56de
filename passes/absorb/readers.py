"""Who reads a constant, under whatever name: tied weights have several names over one storage."""

from __future__ import annotations

from collections import Counter

from torch.fx import GraphModule, Node

from hycompile.attributes import storage_key, tensor_at, used_tensors
from hycompile.program import Program


def readers_of(module: GraphModule, constant: Node) -> list[Node]:
    """Every user, in graph order, of ``constant`` and of the other ``get_attr`` nodes over the same storage."""
    key = storage_key(tensor_at(module, str(constant.target)))
    same = [
        node
        for node in module.graph.find_nodes(op="get_attr")
        if node is constant or (node.users and storage_key(tensor_at(module, str(node.target))) == key)
    ]
    return sorted({user for node in same for user in node.users})


def of_several_methods(program: Program) -> frozenset[object]:
    """Keys of the storages that more than one method reads: scaled in each by itself they would be there twice."""
    found: Counter[object] = Counter()
    for method in program.methods.values():
        found.update({storage_key(tensor) for tensor in used_tensors(method.graph).values()})
    return frozenset(key for key, count in found.items() if count > 1)
