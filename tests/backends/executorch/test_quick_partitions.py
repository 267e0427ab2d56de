"""Partitions made quickly are ExecuTorch's own: same nodes, same order, on graphs where much may not be merged."""

from __future__ import annotations

import operator
import random
from collections.abc import Mapping

import pytest
from torch import nn
from torch.fx import Graph, GraphModule, Node
from torch.fx.passes.operator_support import OperatorSupportBase

from hycompile.backends.executorch.quiet import quiet_executorch

with quiet_executorch():
    from executorch.exir.backend.canonical_partitioners.group_partitioner import GroupBasedPartitioner

    from hycompile.backends.executorch.quick_partitions import quick_partitions


class Marked(OperatorSupportBase):
    """What a graph says of its nodes."""

    def is_node_supported(self, submodules: Mapping[str, nn.Module], node: Node) -> bool:
        return bool(node.meta.get("taken"))


def tangle(seed: int, size: int) -> GraphModule:
    """Sums of what came before, near or far; four in five are taken."""
    draw = random.Random(seed)
    graph = Graph()
    nodes = [graph.placeholder("a"), graph.placeholder("b")]
    for _ in range(size):
        near = nodes[-8:] if draw.random() < 0.8 else nodes
        nodes.append(graph.call_function(operator.add, (draw.choice(near), draw.choice(nodes))))
        nodes[-1].meta["taken"] = draw.random() < 0.8
    graph.output(tuple(nodes[-3:]))
    return GraphModule(nn.Module(), graph)


def partitions(module: GraphModule, groups: list[list[Node]]) -> list[list[str]]:
    made = GroupBasedPartitioner(module, Marked(), allows_single_node_partition=True, node_groups=groups)
    return [[node.name for node in partition.nodes] for partition in made.propose_partitions()]


@pytest.mark.parametrize("seed", range(12))
def test_partitions_are_those_of_executorch(seed: int) -> None:
    module = tangle(seed, 60)
    taken = [node for node in module.graph.nodes if node.meta.get("taken")]
    # Groups of several nodes come together whatever lies between them.
    groups = [taken[place : place + 2] for place in range(0, len(taken) - 1, 5)] if seed % 2 else []
    stock = partitions(module, groups)
    with quick_partitions():
        assert partitions(module, groups) == stock
    assert 1 < len(stock) < len(taken)
