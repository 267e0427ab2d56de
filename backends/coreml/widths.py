"""Which values of a program a 16-bit float cannot hold, measured, so that their operators stay in 32 bits.

EfficientViT's linear attention is the known case: its numerator reaches 6e5 before the division brings it back to 1.
Such a ratio is badly conditioned where its divisor is small, so what it is computed from stays in 32 bits too, back to
the residual stream (efficientvit_b1: error 3.7e-2 without, 4.3e-3 with).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx import Interpreter, Node

from hycompile.schema import is_call

# A quarter of the largest 16-bit float: other inputs than the examples may be larger.
LIMIT = torch.finfo(torch.float16).max / 4


def wide_values(exported: ExportedProgram, inputs: Sequence[Any]) -> frozenset[str]:
    """Names of the values above a quarter of the 16-bit range on ``inputs``, and of what they are computed from."""
    recorder = _Recorder(exported.graph_module)
    with torch.no_grad():
        recorder.run(*_lifted(exported, inputs), enable_io_processing=False)
    found = set(recorder.wide)
    pending = list(recorder.wide)
    while pending:
        for source in pending.pop().all_input_nodes:
            if source.op == "call_function" and source not in found and not _is_residual(source):
                found.add(source)
                pending.append(source)
    return frozenset(node.name for node in found)


def _is_residual(node: Node) -> bool:
    """A sum that more than one branch goes on from."""
    return is_call(node, "aten.add.Tensor") and len(node.users) > 1


def narrow_enough(wide: frozenset[str]) -> Callable[[Any], bool]:
    """For coremltools' ``FP16ComputePrecision``: whether a MIL operator neither makes nor takes a wide value."""

    def selector(operation: Any) -> bool:
        names = {operation.name, *(variable.name for variable in operation.outputs)}
        for given in operation.inputs.values():
            for variable in given if isinstance(given, list | tuple) else [given]:
                names.add(getattr(variable, "name", ""))
        return names.isdisjoint(wide)

    return selector


class _Recorder(Interpreter):
    def __init__(self, module: torch.fx.GraphModule) -> None:
        super().__init__(module)
        self.wide: list[Node] = []

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        if n.op == "call_function" and any(
            _is_wide(part) for part in (value if isinstance(value, list | tuple) else [value])
        ):
            self.wide.append(n)
        return value


def _is_wide(value: Any) -> bool:
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.numel() == 0:
        return False
    # An infinity is meant (a mask) and 16 bits hold it.
    finite = value[torch.isfinite(value)]
    return finite.numel() > 0 and float(finite.abs().max()) > LIMIT


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
