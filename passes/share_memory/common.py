"""What several units compute of one memory alike is computed once."""

from __future__ import annotations

from collections.abc import Hashable

from torch.fx import GraphModule, Node

from hycompile.attributes import storage_key
from hycompile.passes.share_memory.keys import call_key
from hycompile.passes.share_memory.units import Memory, readings
from hycompile.program import constant


def compute_once(module: GraphModule, memory: Memory) -> int:
    """Merge readings that apply the same operator to the same values; returns how many went away."""

    def name(source: Node) -> Hashable:
        tensor = constant(module, source)
        return source.name if tensor is None else storage_key(tensor)

    first: dict[Hashable, Node] = {}
    merged = 0
    for node in readings(memory):
        kept = first.setdefault(call_key(node, name), node)
        if kept is not node:
            node.replace_all_uses_with(kept)
            module.graph.erase_node(node)
            merged += 1
    return merged
