"""Layers alone: what each reads on the calibration set, and what it computes of that, rounded or not."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.fx import Node
from torch.fx.node import map_arg

from hycompile.attributes import tensor_at
from hycompile.parity import play
from hycompile.passes.quantise.layers import Layer
from hycompile.program import Method, Program, Step

# Values kept of what a layer reads; beyond, no further calls are looked at.
_MOST_VALUES = 1 << 19

Operands = Mapping[Node, Tensor]


@dataclass
class Case:
    """A layer with what it reads, call by call, and what it computes of that in float.

    Args:
        method: whose layer it is.
        layer: the layer.
        operands: of each call, everything it reads but its weight and its bias.
        outputs: of each call.
        whole: take all rows of a call or none.
    """

    method: Method
    layer: Layer
    operands: list[Operands] = field(default_factory=list[Operands])
    outputs: list[Tensor] = field(default_factory=list[Tensor])
    whole: bool = False

    @property
    def weight(self) -> Tensor:
        """The layer's weight in float."""
        assert self.layer.weight is not None
        return tensor_at(self.method.graph, str(self.layer.weight.target)).detach()

    @property
    def channels(self) -> int:
        """The axis of its output, counted from the end, that its weight's output channels become."""
        return 1 - self.weight.ndim

    def compute(self, operands: Operands, weight: Tensor | None = None) -> Tensor:
        """What the layer gives for some operands; on its own weight unless another is given."""

        def operand(node: Node) -> Tensor:
            if node is self.layer.weight and weight is not None:
                return weight
            return operands[node] if node in operands else tensor_at(self.method.graph, str(node.target)).detach()

        arguments, keywords = map_arg(self.layer.node.args, operand), map_arg(self.layer.node.kwargs, operand)
        with torch.no_grad():
            return self.layer.node.target(*arguments, **keywords)  # type: ignore[operator]

    def take(self, operands: Operands) -> bool:
        """Add one call, or as many rows of it as there is room for; says whether there was any."""
        held = sum(value.numel() for call in self.operands for value in call.values())
        few = self._rows(operands, _MOST_VALUES - held)
        if few is not None:
            self.operands.append(few)
            self.outputs.append(self.compute(few))
        return few is not None

    def _rows(self, operands: Operands, room: int) -> Operands | None:
        size = sum(map(Tensor.numel, operands.values()))
        if size <= room:
            return operands
        if self.whole or self.layer.weight is None or len(operands) > 1:
            # What its leading axes mean is not known here: all or nothing.
            return None if self.operands else operands
        ((node, value),) = operands.items()
        batched = value.ndim >= max(2, self.weight.ndim)
        count = room * len(value) // size if batched else 0
        if count == 0 and not self.operands:
            count = 1 if batched else len(value)
        return {node: value[:count]} if count else None


def cases(program: Program, name: str, layers: list[Layer]) -> list[Case]:
    """The layers of a method with their calibration data; empty cases where no step calls it."""
    found = [Case(program.methods[name], layer) for layer in layers]
    wanted = {node for case in found for node in read_by(case.layer)}
    for _, seen in recorded(program, name, wanted):
        for case in found:
            case.take({node: seen[node] for node in read_by(case.layer)})
    return found


def read_by(layer: Layer) -> list[Node]:
    """What a layer reads at run time."""
    return [node for node in layer.node.all_input_nodes if node is not layer.weight and node is not layer.bias]


def recorded(program: Program, name: str, wanted: Container[Node]) -> Iterator[tuple[Step, Operands]]:
    """The calibration steps of one method, with some of the values each computes in float."""
    seen: dict[Node, Tensor] = {}

    def watch(method: str, node: Node, value: object) -> None:
        if method == name and node in wanted and isinstance(value, Tensor):
            seen[node] = value

    for step, _ in zip(program.calibration, play(program, program.calibration, watch), strict=True):
        if step.method == name:
            yield step, dict(seen)
        seen.clear()
