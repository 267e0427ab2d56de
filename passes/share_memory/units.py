"""Gated memories in a graph: a value that several products read, each gated by the SiLU of its own linear."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass

from torch.fx import GraphModule, Node

from hycompile.passes.absorb.operator import LINEAR
from hycompile.passes.channels import MOVES
from hycompile.passes.fold_multipliers.absorbers import MULTIPLIER
from hycompile.passes.fold_norm_affine import NORMS
from hycompile.program import constant
from hycompile.schema import bind, is_call

_SELECTIONS = ("aten.slice.Tensor", "aten.select.int", "aten.expand", "aten._to_copy")
_SPLITS = ("aten.split.Tensor", "aten.split_with_sizes")
_SIZE_OF = ("aten.rsqrt", "aten.sqrt", "aten.reciprocal", "aten.pow.Tensor_Scalar", "aten.square", "aten.mean.dim",
            "aten.sum.dim_IntList", "aten.add.Tensor", "aten.mul.Tensor", "aten._to_copy")  # fmt: skip


@dataclass(frozen=True)
class Unit:
    """``product = silu(gate) * f(memory)``; ``gate`` is a linear, f moves, selects, normalises or scales channels."""

    product: Node
    activation: Node
    gate: Node
    memory: Node


@dataclass(frozen=True)
class Memory:
    """A value and the gated products that read it."""

    producer: Node
    units: tuple[Unit, ...]


def find_memories(module: GraphModule) -> list[Memory]:
    """Every value that several gated products read, or one product and somebody else."""
    found: dict[Node, list[Unit]] = {}
    for node in module.graph.nodes:
        unit = _unit(module, node)
        if unit is not None:
            found.setdefault(unit.memory, []).append(unit)
    memories = [Memory(producer, tuple(units)) for producer, units in found.items()]
    return [memory for memory in memories if len(memory.units) > 1 or len(memory.producer.users) > 1]


def readings(memory: Memory) -> list[Node]:
    """What is computed from the memory or a gate before the next linear or sum, in the order of the graph."""
    found: set[Node] = set()
    pending = [memory.producer, *(unit.activation for unit in memory.units)]
    while pending:
        for user in pending.pop().users:
            ends = user.op != "call_function" or is_call(user, *LINEAR) or _is_sum(user)
            if not ends and user not in found:
                found.add(user)
                pending.append(user)
    return sorted(found)


def _is_sum(node: Node) -> bool:
    operands = [value for value in bind(node).values() if isinstance(value, Node)]
    return is_call(node, "aten.add.Tensor", "aten.sub.Tensor") and len(operands) > 1


def _unit(module: GraphModule, node: Node) -> Unit | None:
    if not is_call(node, "aten.mul.Tensor"):
        return None
    first, second = node.args[:2]
    for gate, memory in ((first, second), (second, first)):
        if not isinstance(gate, Node) or not isinstance(memory, Node):
            return None
        activation = _activation(module, gate)
        if activation is None or constant(module, memory) is not None:
            continue
        linear, producer = _linear(module, activation), _origin(module, memory)
        if linear is not None and producer is not linear and producer is not activation:
            return Unit(node, activation, linear, producer)
    return None


def _activation(module: GraphModule, node: Node) -> Node | None:
    """The SiLU a gate is, through moves and constant factors."""
    for value in _upwards(module, node):
        if is_call(value, "aten.silu") or _is_silu(value):
            return value
    return None


def _is_silu(node: Node) -> bool:
    """``x * sigmoid(x)``."""
    if not is_call(node, "aten.mul.Tensor"):
        return False
    pairs = (node.args[:2], node.args[1::-1])
    return any(is_call(gate, "aten.sigmoid") and gate.args[0] is x for x, gate in pairs)  # type: ignore[union-attr]


def _linear(module: GraphModule, activation: Node) -> Node | None:
    start = activation.args[0] if is_call(activation, "aten.silu") else _silu_input(activation)
    return next((value for value in _upwards(module, start) if is_call(value, "aten.linear")), None)  # type: ignore[arg-type]


def _silu_input(node: Node) -> Node:
    first, second = node.args[:2]
    return first if is_call(second, "aten.sigmoid") else second  # type: ignore[return-value]


def _origin(module: GraphModule, node: Node) -> Node:
    """The value that ``node`` is a move, a selection, a scaled or a normalised form of."""
    *_, last = _upwards(module, node)
    return last


def _upwards(module: GraphModule, node: Node) -> Iterator[Node]:
    current: Node | None = node
    while current is not None:
        yield current
        current = _before(module, current)


def _before(module: GraphModule, node: Node) -> Node | None:
    if node.target is operator.getitem:
        # Pieces of a split are parts of one value; the outputs of any other operator are values of their own.
        source: Node = node.args[0]  # type: ignore[assignment]
        return source if is_call(source, *_SPLITS) else None
    if is_call(node, *MOVES, *_SELECTIONS, *_SPLITS, *NORMS):
        return node.args[0]  # type: ignore[return-value]
    found = MULTIPLIER.match(module, node, {})
    return found["x"].node if found is not None else _normalised(node)


def _normalised(node: Node) -> Node | None:
    """The x of ``x * rsqrt(mean(x^2) + eps)``, a norm written out."""
    if not is_call(node, "aten.mul.Tensor", "aten.div.Tensor") or len(node.all_input_nodes) != 2:
        return None
    first, second = node.args[:2]
    for x, size in ((first, second), (second, first)):
        seen = size
        while isinstance(seen, Node) and is_call(seen, *_SIZE_OF) and len(seen.all_input_nodes) == 1:
            seen = seen.all_input_nodes[0]
            if seen is x:
                return x  # type: ignore[return-value]
    return None
