"""Q-HyViT: scales and schemes chosen by what their rounding costs the network, at the output of bridge blocks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import ClassVar

from torch import Tensor
from torch.fx import Node

from hycompile.passes.quantise.alternate import SHARES, Alternation, shares_of
from hycompile.passes.quantise.blocks import Block, BlockLoss
from hycompile.passes.quantise.bridges import bridges
from hycompile.passes.quantise.cases import Case, read_by, recorded
from hycompile.passes.quantise.correct_biases import correct_biases
from hycompile.passes.quantise.draft import Draft
from hycompile.passes.quantise.gradients import gradients_of, of_rows
from hycompile.passes.quantise.grid import Grid
from hycompile.passes.quantise.methods.search import Search
from hycompile.passes.quantise.ranges import Range
from hycompile.passes.quantise.simulation import Simulation
from hycompile.program import Program
from hycompile.quantisation.nodes import MOVES
from hycompile.schema import is_call

_TURNS = 2
# Of one call, of a value that is judged by itself.
_MOST_VALUES = 1 << 17


class QHyViT(Search):
    """For weights and values in turn, the range and the scheme that cost the network's prediction least.

    The cost is the squared error of a layer's output, each entry weighed by the squared gradient of the divergence
    between the rounded prediction and the float one. A layer that begins a bridge block, where feature maps become
    tokens or tokens feature maps, is judged by the output of the block.

    ``scheme``: values may be symmetric or not, and their two ends move apart. ``bridges``: the objective of blocks.
    ``biases``, which the paper does not have: each channel's mean is kept (:func:`correct_biases`).

    Source: Lee et al. 2024, "Q-HyViT: Post-Training Quantization of Hybrid Vision Transformers With Bridge Block
    Reconstruction for IoT Systems"; the search that the paper describes, which its released code does not have.
    """

    name = "q-hyvit"
    parts: ClassVar[tuple[str, ...]] = ("scheme", "bridges", "biases")

    def run(self, program: Program, drafts: Mapping[str, Draft]) -> None:
        for name, draft in drafts.items():
            _Method(program, name, draft, self.without).search(self.name)
            if "biases" not in self.without:
                correct_biases(program, name, draft)


class _Method:
    """One method of a Program."""

    def __init__(self, program: Program, name: str, draft: Draft, without: frozenset[str]) -> None:
        self._draft, self._without = draft, without
        method = program.methods[name]
        found = bridges(draft.layers) if "bridges" not in without else []
        self._blocks = {bridge.first.node: Block(bridge) for bridge in found}
        self._cases = [Case(method, layer, whole=layer.node in self._blocks) for layer in draft.layers]
        self._gradients: dict[Node, list[Tensor]] = {layer.node: [] for layer in draft.layers}
        # Values that operators in float read, too: how far they move, and how much that matters.
        self._alone: dict[Node, list[tuple[Tensor, Tensor]]] = {
            source: [] for source in draft.values if _read_in_float(source, draft)
        }
        self._simulation = Simulation(method, draft)
        wanted = {node for layer in draft.layers for node in (layer.node, *read_by(layer))} | set(self._alone)
        for block in self._blocks.values():
            wanted |= block.read() | set(block.bridge.ends)
        for step, seen in recorded(program, name, wanted):
            self._take(seen, gradients_of(method, draft, step, wanted))

    def _take(self, seen: Mapping[Node, Tensor], gradients: Mapping[Node, Tensor]) -> None:
        for case in self._cases:
            if not case.take({node: seen[node] for node in read_by(case.layer)}):
                continue
            node = case.layer.node
            self._gradients[node].append(of_rows(gradients, node, case.outputs[-1]))
            if (block := self._blocks.get(node)) is not None:
                block.sides.append({source: seen[source] for source in block.read()})
                block.ends.append({end: seen[end] for end in block.bridge.ends})
                block.gradients.append({end: of_rows(gradients, end, seen[end]) for end in block.bridge.ends})
        for source, kept in self._alone.items():
            every = -(-seen[source].numel() // _MOST_VALUES)
            value, slope = seen[source], of_rows(gradients, source, seen[source])
            kept.append((value.flatten()[::every].clone(), slope.flatten()[::every].clone()))

    def search(self, by: str) -> None:
        loss = BlockLoss(self._simulation, self._gradients, self._blocks)
        ladders = [shares_of] if "scheme" in self._without else [_schemes, _highs, _lows]
        turns = Alternation(self._draft, self._cases, loss, by, ladders)
        for _ in range(_TURNS):
            for name in self._draft.weights:
                turns.weight(name)
                if any(layer.node in self._blocks for layer in self._draft.users(name)):
                    turns.weight(name, together=True)
            for source in self._draft.values:
                if source in self._alone:
                    turns.keep(source, lambda tried, kept=self._alone[source]: _moved(tried, kept))
                else:
                    turns.value(source)


def _moved(tried: Range, kept: list[tuple[Tensor, Tensor]]) -> float:
    return sum(float(((tried.round(value) - value) * slope).square().sum()) for value, slope in kept)


def _read_in_float(source: Node, draft: Draft) -> bool:
    """Whether anything but layers reads an output that is rounded for all its readers."""
    if not any(layer.output is source for layer in draft.layers):
        return False
    layers = {layer.node: layer for layer in draft.layers}
    pending = [(source, user) for user in source.users]
    while pending:
        point, user = pending.pop()
        if is_call(user, *MOVES):
            pending += [(user, after) for after in user.users]
        elif user not in layers or point not in layers[user].inputs:
            return True
    return False


def _schemes(first: Range, best: Range) -> Iterable[Range]:
    """Every share of the range, on a grid that is not symmetric and, with values on both sides of 0, on one that is."""
    grids = [Grid(first.grid.bits, symmetric) for symmetric in (False, True)[: 1 + _two_sided(first)]]
    return [replace(tried, grid=grid) for tried in shares_of(first, best) for grid in grids]


def _highs(first: Range, best: Range) -> Iterable[Range]:
    apart = _two_sided(first) and not best.grid.symmetric
    return [replace(best, high=first.high * share) for share in SHARES] if apart else []


def _lows(first: Range, best: Range) -> Iterable[Range]:
    apart = _two_sided(first) and not best.grid.symmetric
    return [replace(best, low=first.low * share) for share in SHARES] if apart else []


def _two_sided(found: Range) -> bool:
    return float(found.low) < 0 < float(found.high)
