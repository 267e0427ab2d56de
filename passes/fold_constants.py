"""Compute at build time what does not depend on the inputs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.fx import Node
from torch.fx.node import map_arg

from hycompile.builder import Builder
from hycompile.pipeline import Check, Pass
from hycompile.program import Method, Program, constant, source_line
from hycompile.reports import Refusal, RuleReport
from hycompile.rewrite import erase_dead
from hycompile.schema import is_call


@dataclass(frozen=True)
class FoldConstants(Pass):
    """An operator whose tensors are all constants becomes its result: position tables, bias gathers, reshaped weights.

    Refused where the result needs ``max_growth_bytes`` more than what it is made from (an expanded table), where a size
    is dynamic, and for random operators.
    """

    name: ClassVar[str] = "fold-constants"
    max_growth_bytes: int = 1 << 24

    def run(self, program: Program, check: Check) -> list[RuleReport]:
        report, start = RuleReport("fold_constants"), time.perf_counter()
        for method in program.methods.values():
            for node in list(method.graph.graph.nodes):
                self._fold(method, node, report)
            method.graph.recompile()
        report.seconds = time.perf_counter() - start
        if report.hits:
            check(program, report)
        return [report]

    def _fold(self, method: Method, node: Node, report: RuleReport) -> None:
        module, value = method.graph, node.meta.get("val")
        if node._erased or node.op != "call_function" or not isinstance(value, Tensor) or is_call(node, "aten.copy_"):
            return
        inputs = {source: constant(module, source) for source in node.all_input_nodes}
        if any(tensor is None for tensor in inputs.values()) or _random(node):
            return
        if any(isinstance(size, torch.SymInt) for size in value.shape):
            return
        before = sum(tensor.numel() * tensor.element_size() for tensor in inputs.values() if tensor is not None)
        after = value.numel() * value.element_size()
        if after - before > self.max_growth_bytes:
            reason = (
                f"the result takes {after} bytes, its constants {before}; the limit is {self.max_growth_bytes} more"
            )
            report.refusals.append(Refusal(reason, node.name, source_line(node)))
            return
        args, kwargs = map_arg((node.args, node.kwargs), lambda source: inputs[source])  # type: ignore[misc, arg-type]
        target: Any = node.target
        with torch.no_grad():
            result: Tensor = target(*args, **kwargs)
        folded = Builder(module, node, "fold_constants").constant(result.clone())
        node.replace_all_uses_with(folded.node)
        erase_dead(module, node)
        report.hits += 1


def _random(node: Node) -> bool:
    return isinstance(node.target, OpOverload) and torch.Tag.nondeterministic_seeded in node.target.tags
