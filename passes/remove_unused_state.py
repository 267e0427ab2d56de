"""Drop weights and state that nothing reads."""

from __future__ import annotations

import time
from typing import ClassVar

from torch.fx import Node

from hycompile.attributes import state_writes, tensor_at
from hycompile.pipeline import Check, Pass
from hycompile.program import Method, Program
from hycompile.reports import Refusal, RuleReport
from hycompile.schema import is_call


class RemoveUnusedState(Pass):
    """Weights no operator reads leave the Program (an export would carry each as an input).

    A buffer that is written but never read is kept and named: its final value can be observed.
    """

    name: ClassVar[str] = "remove-unused-state"

    def run(self, program: Program, check: Check) -> list[RuleReport]:
        report, start = RuleReport("remove_unused_state"), time.perf_counter()
        read = {name for method in program.methods.values() for name in _read(method)}
        for name, method in program.methods.items():
            report.hits += _remove(method)
            report.refusals += _kept(method, read)
            program.methods[name] = method.copy()
        report.seconds = time.perf_counter() - start
        if report.hits:
            check(program, report)
        return [report]


def _remove(method: Method) -> int:
    graph, removed = method.graph.graph, 0
    for node in reversed(list(graph.find_nodes(op="get_attr"))):
        if not node.users:
            graph.erase_node(node)
            removed += 1
    method.graph.recompile()
    return removed


def _read(method: Method) -> set[str]:
    """Names of the tensors an operator of the method reads."""
    nodes = method.graph.graph.find_nodes(op="get_attr")
    return {str(node.target) for node in nodes if any(not _writes(user, node) for user in node.users)}


def _writes(user: Node, buffer: Node) -> bool:
    return is_call(user, "aten.copy_") and user.args[0] is buffer and user.args[1] is not buffer


def _kept(method: Method, read: set[str]) -> list[Refusal]:
    kept: list[Refusal] = []
    for name, write in state_writes(method.graph).items():
        if name not in read:
            size = tensor_at(method.graph, name).numel()
            kept.append(
                Refusal(
                    f"state {name!r} ({size} values) is written but never read; its final value can be observed",
                    write.name,
                    "",
                )
            )
    return kept
