"""One name for constants that are equal."""

from __future__ import annotations

import time
from typing import ClassVar

from torch.fx import GraphModule, Node

from hycompile.attributes import storage_key
from hycompile.pipeline import Check, Pass
from hycompile.program import Program, constant
from hycompile.reports import RuleReport
from hycompile.sharing import share


class MergeConstants(Pass):
    """Constants of a method that are equal bit for bit, in type and shape, are read under one name.

    Given: weights tied under two names, tables every block computes for itself. State is left alone.
    Result: the first name in the graph's order; the others are gone. Across methods, equal constants share storage.
    """

    name: ClassVar[str] = "merge-constants"

    def run(self, program: Program, check: Check) -> list[RuleReport]:
        report, start = RuleReport("merge_constants"), time.perf_counter()
        share(program.methods.values())
        for method in program.methods.values():
            report.hits += _merge(method.graph)
            method.graph.recompile()
        report.seconds = time.perf_counter() - start
        if report.hits:
            check(program, report)
        return [report]


def _merge(module: GraphModule) -> int:
    first: dict[tuple[object, ...], Node] = {}
    hits = 0
    for node in module.graph.find_nodes(op="get_attr"):
        tensor = constant(module, node)
        if tensor is None or not node.users:
            continue
        kept = first.setdefault(storage_key(tensor), node)
        if kept is not node:
            node.replace_all_uses_with(kept)
            module.graph.erase_node(node)
            hits += 1
    return hits
