"""Which operators of a Core ML package stay in 32 bits: those of the nodes that float16 cannot compute.

coremltools places the casts itself, operator by operator, after it has rewritten the graph; so it is told by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx import Node

from hycompile.program import Method
from hycompile.ranges import wide_nodes
from hycompile.script import draws


def wide_values(exported: ExportedProgram, legal: Method) -> list[Node]:
    """The nodes of an exported method in float32 that must stay in 32 bits.

    Args:
        exported: what coremltools is given.
        legal: the method it was exported from, for its inputs.
    """
    return wide_nodes(exported.graph_module, [_lifted(exported, inputs) for inputs in draws(legal)])


def narrow_enough(wide: list[Node]) -> Callable[[Any], bool]:
    """For coremltools' ``FP16ComputePrecision``: whether a MIL operator belongs to no node that is wide.

    A node becomes several operators, of which the last has its name. The first is known by what it takes, where every
    user of that is wide.
    """
    names = {node.name for node in wide}
    inner = {node.name for node in wide if all(user.name in names for user in node.users)}

    def selector(operation: Any) -> bool:
        made = {operation.name, *(variable.name for variable in operation.outputs)}
        taken: set[str] = set()
        for given in operation.inputs.values():
            for variable in given if isinstance(given, list | tuple) else [given]:
                taken.add(getattr(variable, "name", ""))
        return made.isdisjoint(names) and taken.isdisjoint(inner)

    return selector


def _lifted(exported: ExportedProgram, inputs: Sequence[Any]) -> list[Any]:
    """The placeholders' values: weights and state by name, then the user's inputs, cast to the program's types."""
    given = iter(inputs)
    values: list[Any] = []
    for spec, node in zip(
        exported.graph_signature.input_specs, exported.graph.find_nodes(op="placeholder"), strict=True
    ):
        if spec.kind == InputKind.USER_INPUT:
            value = next(given)
            values.append(value.to(node.meta["val"].dtype) if isinstance(value, Tensor) else value)
        elif spec.target in exported.state_dict:
            values.append(exported.state_dict[str(spec.target)])
        else:
            values.append(exported.constants[str(spec.target)])
    return values
