"""Grouping what a delegate takes, in time that large graphs allow: the groups are the same.

ExecuTorch 1.5.1 joins two partitions where no path leaves both and comes back. For every pair it collects their nodes,
walks everything behind each of their readers, and then walks the graph once more: minutes for the thousands of nodes of
a scan written out. Here what lies behind a node is one integer, a bit for each node, made once.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from executorch.exir.backend.canonical_partitioners.group_partitioner import GroupBasedPartitioner
from torch.fx import Graph, Node


@contextmanager
def quick_partitions() -> Generator[None]:
    """Inside, partitioners by groups merge partitions without walking the graph for every pair."""
    with patch.object(GroupBasedPartitioner, "_merge_partitions", _merge_partitions):
        yield


def _merge_partitions(
    self: Any,
    partitions_by_id: dict[int, Any],
    assignment: dict[Node, int],
    partition_users: dict[int, set[Node]],
    partition_map: dict[int, set[int]],
    partitions_order: dict[int, int],
) -> None:
    """In the stock order: every partition takes those behind it in the list that it may."""
    graph: Graph = self.graph_module.graph
    bits = {node: 1 << place for place, node in enumerate(graph.nodes)}
    behind = _behind(graph, bits)
    nodes = {key: _sum(partition.nodes, bits) for key, partition in partitions_by_id.items()}
    readers = {
        key: _sum((user for node in partition.nodes for user in node.users), bits)
        for key, partition in partitions_by_id.items()
    }
    waiting = list(partitions_by_id)
    while waiting:
        first, *waiting = waiting
        kept: list[int] = []
        for second in waiting:
            both, read_by = nodes[first] | nodes[second], readers[first] | readers[second]
            if _comes_back(read_by & ~both, both, behind):
                kept.append(second)
                continue
            self._perform_partition_merge(
                first, second, partitions_by_id, assignment, partition_users, partition_map, partitions_order
            )
            nodes[first], readers[first] = both, read_by
        waiting = kept


def _sum(nodes: Any, bits: dict[Node, int]) -> int:
    total = 0
    for node in nodes:
        total |= bits[node]
    return total


def _behind(graph: Graph, bits: dict[Node, int]) -> list[int]:
    """Of every node, in order, all that depends on it."""
    found = [0] * len(bits)
    for node in reversed(graph.nodes):
        total = 0
        for user in node.users:
            total |= bits[user] | found[bits[user].bit_length() - 1]
        found[bits[node].bit_length() - 1] = total
    return found


def _comes_back(outside: int, inside: int, behind: list[int]) -> bool:
    """Whether a path from a reader outside leads inside again."""
    while outside:
        lowest = outside & -outside
        if behind[lowest.bit_length() - 1] & inside:
            return True
        outside ^= lowest
    return False
