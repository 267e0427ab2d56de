"""What rounding costs, weighed by squared gradients: at a layer's output, or at that of the block it begins."""

from __future__ import annotations

from collections import ChainMap
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.fx import Node

from hycompile.passes.quantise.bridges import Bridge
from hycompile.passes.quantise.cases import Case, Operands
from hycompile.passes.quantise.ranges import rows_of
from hycompile.passes.quantise.simulation import Simulation


@dataclass
class Block:
    """A bridge and, by call, what it reads beside its first layer, what its ends give and the gradients there."""

    bridge: Bridge
    sides: list[Operands] = field(default_factory=list[Operands])
    ends: list[Operands] = field(default_factory=list[Operands])
    gradients: list[Operands] = field(default_factory=list[Operands])

    def read(self) -> set[Node]:
        """The values it reads that are neither constants nor its own."""
        inside = {self.bridge.first.node, *self.bridge.nodes}
        sources = {source for node in self.bridge.nodes for source in node.all_input_nodes}
        return {source for source in sources - inside if source.op != "get_attr"}


class BlockLoss:
    """``sum((g (found - wanted))^2)`` with ``g`` the gradient of what rounding costs the whole network.

    Source: the objective of Li et al. 2021, "BRECQ", as Q-HyViT takes it.

    Args:
        simulation: of the method.
        gradients: at layers' outputs, by the calls of their cases.
        blocks: by first layer; these are judged where they end.
    """

    def __init__(self, simulation: Simulation, gradients: dict[Node, list[Tensor]], blocks: dict[Node, Block]) -> None:
        self._simulation, self._gradients, self._blocks = simulation, gradients, blocks

    def __call__(self, case: Case, found: list[Tensor], axis: int | None) -> Tensor:
        block = self._blocks.get(case.layer.node) if axis is None else None
        if block is not None:
            return self._at_the_ends(block, found)
        parts = zip(found, case.outputs, self._gradients[case.layer.node], strict=True)
        return sum((_weighed(*part, axis) for part in parts), torch.zeros(()))

    def _at_the_ends(self, block: Block, found: list[Tensor]) -> Tensor:
        total, first = torch.zeros(1), block.bridge.first.node
        for given, side, ends, gradients in zip(found, block.sides, block.ends, block.gradients, strict=True):
            values = ChainMap({first: self._simulation.settled(first, given)}, dict(side))
            for node in block.bridge.nodes:
                values[node] = self._simulation.compute(node, values)
            for node, wanted in ends.items():
                total = total + _weighed(values[node], wanted, gradients[node], None)
        return total


def _weighed(found: Tensor, wanted: Tensor, gradients: Tensor, axis: int | None) -> Tensor:
    return rows_of((found - wanted).mul_(gradients).square_(), axis).sum(1)
