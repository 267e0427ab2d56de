"""Who reads a constant, under whatever name: tied weights have several names over one storage."""

from __future__ import annotations

from torch.fx import GraphModule, Node

from hycompile.attributes import storage_key, tensor_at


def readers_of(module: GraphModule, constant: Node) -> list[Node]:
    """Every user, in graph order, of ``constant`` and of the other ``get_attr`` nodes over the same storage."""
    key = storage_key(tensor_at(module, str(constant.target)))
    same = [
        node
        for node in module.graph.find_nodes(op="get_attr")
        if node is constant or (node.users and storage_key(tensor_at(module, str(node.target))) == key)
    ]
    return sorted({user for node in same for user in node.users})
