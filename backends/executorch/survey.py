"""What the delegates take and what they leave, for a lowered program or, as a dry run, before the long lowering."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from executorch.exir import EdgeProgramManager
from executorch.exir.backend.partitioner import Partitioner
from torch.export import ExportedProgram
from torch.fx import Node

from hycompile.backend import Obstacle
from hycompile.backends.executorch.dynamic import unbounded_sizes
from hycompile.backends.executorch.edge import convert_ahead
from hycompile.backends.executorch.operators import (
    compute_operators,
    delegate_calls,
    kernel,
    kernels_here,
    operator_name,
)
from hycompile.backends.executorch.reasons import reason, why_not
from hycompile.backends.executorch.rows import refused_weights
from hycompile.program import Program, source_line
from hycompile.target import Target


@dataclass(frozen=True)
class Fallen:
    """Calls of one operator that stay outside the delegates, from one source line, for one reason."""

    operator: str
    count: int
    reason: str
    where: str


@dataclass(frozen=True)
class Account:
    """Compute operators inside and outside the delegates, over all methods."""

    delegates: int
    delegated: int
    fallen: tuple[Fallen, ...]

    def facts(self) -> dict[str, object]:
        """``delegated_share`` of compute operators, ``delegates`` called, what is ``outside`` and the ``reasons``."""
        outside: Counter[str] = Counter()
        for item in self.fallen:
            outside[item.operator] += item.count
        total = self.delegated + outside.total()
        return {
            "delegated_share": round(self.delegated / total, 4) if total else 0.0,
            "delegates": self.delegates,
            "outside": dict(outside.most_common()),
            "reasons": [asdict(item) for item in self.fallen],
        }


def account(edge: EdgeProgramManager, target: Target) -> Account:
    """Count a lowered program's operators on both sides of its delegates' borders."""
    modules = [edge.exported_program(name).graph_module for name in sorted(edge.methods)]
    lowered = [call for module in modules for call in delegate_calls(module)]
    delegated = sum(len(compute_operators(call.original_module.graph)) for call in lowered)
    outside = [node for module in modules for node in compute_operators(module.graph)]
    return Account(len(lowered), delegated, _group(outside, target))


def survey(program: Program, target: Target) -> list[Obstacle]:
    """Everything that stands in the way: no kernel or no bound (fatal), or outside the delegates (slower).

    The graph is converted to edge dialect and shown to the partitioners exactly as ``lower`` does, but nothing is
    compiled. A lowering of the same program that follows takes the conversion over.
    """
    refused = unbounded_sizes(program) + refused_weights(program)
    if refused:
        return refused
    converted = convert_ahead(program, target)
    outside: list[Node] = []
    with why_not():
        for name in sorted(converted.manager.methods):
            exported = converted.manager.exported_program(name)
            taken = set[Node]().union(*(_taken(each, exported) for each in converted.partitioners[name]))
            outside += [node for node in compute_operators(exported.graph) if node not in taken]
    present = kernels_here()
    slower = "it runs on a portable kernel; rewrite it with operators the delegate takes"
    return without_kernel(outside, target) + [
        Obstacle(item.operator, item.count, item.reason, slower, item.where, fatal=False)
        for item in _group([node for node in outside if kernel(node) in present], target)
    ]


def without_kernel(outside: list[Node], target: Target) -> list[Obstacle]:
    """Fatal obstacles for the operators that neither a delegate takes nor the runtime has a kernel for."""
    present = kernels_here()
    homeless = "no delegate takes it and ExecuTorch has no kernel for it"
    return [
        Obstacle(item.operator, item.count, homeless, "rewrite it in the model with other operators", item.where)
        for item in _group([node for node in outside if kernel(node) not in present], target)
    ]


def _taken(partitioner: Partitioner, exported: ExportedProgram) -> set[Node]:
    """What a partitioner would delegate; the program stays as it is."""
    partitioner.partition(exported)
    return {node for node in exported.graph.nodes if node.meta.pop("delegation_tag", None) is not None}


def _group(nodes: Iterable[Node], target: Target) -> tuple[Fallen, ...]:
    names = target.executorch.partitioners
    counts = Counter((operator_name(node), reason(node, names), source_line(node)) for node in nodes)
    return tuple(Fallen(operator, count, why, where) for (operator, why, where), count in counts.most_common())
