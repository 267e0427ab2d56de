"""What TVM's torch front end would refuse, found without importing anything."""

from __future__ import annotations

from collections import defaultdict

from torch.fx import Node

from hycompile.backend import Obstacle
from hycompile.backends.tvm.importer import operator_key, translatable
from hycompile.backends.tvm.whole_numbers import is_rounded_weight
from hycompile.program import Program, source_line
from hycompile.schema import operator_name

WRITE = "copy_.default"  # state writes become outputs before the import


def find_obstacles(program: Program) -> list[Obstacle]:
    """One obstacle for each operator without a translation, with the line of its first use."""
    known = translatable() | {WRITE}
    unknown: dict[str, list[Node]] = defaultdict(list)
    for method in program.methods.values():
        for node in method.graph.graph.nodes:
            if node.op == "call_function" and operator_key(node) not in known and not is_rounded_weight(node):
                unknown[operator_name(node)].append(node)
    return [
        Obstacle(
            operator=name,
            count=len(nodes),
            reason="TVM's torch front end has no translation for it",
            way_out="write it with other operators in the model, or use another runtime",
            where=source_line(nodes[0]),
        )
        for name, nodes in unknown.items()
    ]
