"""A Program in float16 that computes in float32 where float16's range ends, with explicit casts at the borders.

Its inputs, outputs, state and weights are float16, as after ``program.to(torch.float16)``, and its node names are the
Program's. What stays in float32 is measured, see :mod:`hycompile.ranges`: a wide node takes its inputs widened and its
weights unrounded, and what it makes is rounded once, for the first node that computes in float16.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg

from hycompile.attributes import put_tensor, tensor_at
from hycompile.fake import fake_mode, infer
from hycompile.program import Method, Program, constant
from hycompile.ranges import wide_nodes
from hycompile.schema import overload
from hycompile.script import draws
from hycompile.target import Precision

_SUFFIX = "_unrounded"


@dataclass(frozen=True)
class Half:
    """A Program in float16, and the names of the nodes that compute in float32, by method, in graph order."""

    program: Program
    wide: dict[str, tuple[str, ...]]

    @property
    def kept(self) -> dict[str, list[str]]:
        """The methods with such nodes, for an artifact's facts."""
        return {method: list(names) for method, names in self.wide.items() if names}


def to_precision(program: Program, precision: Precision) -> Half:
    """The Program as a backend computes it: as it is for ``fp32``, by :func:`to_float16` for ``fp16``."""
    return to_float16(program) if precision == "fp16" else Half(program, {})


def to_float16(program: Program) -> Half:
    """Convert to float16 what float16 can hold.

    Every method runs in float32 on its example inputs and two more draws of them, as the proof does; nodes whose values
    leave float16's range there stay in float32.
    """
    single, half = program.to(torch.float32), program.to(torch.float16)
    wide: dict[str, tuple[str, ...]] = {}
    for name, method in single.methods.items():
        wide[name] = tuple(node.name for node in wide_nodes(method.graph, _runs(method)))
        widen(half.methods[name], method, wide[name])
    return Half(half, wide)


def _runs(method: Method) -> list[list[Any]]:
    """Values of every placeholder, the numbers among them as captured, for each draw of the inputs."""
    runs: list[list[Any]] = []
    for inputs in draws(method):
        tensors = iter(inputs)
        runs.append([next(tensors) if isinstance(leaf, Tensor) else leaf for leaf in method.leaves()])
    return runs


def widen(half: Method, single: Method, names: tuple[str, ...]) -> None:
    """Let some nodes of a float16 method compute in float32, in place.

    Args:
        half: the method to change.
        single: the same method in float32, which gives weights, numbers and types as they were before rounding.
        names: the nodes, of either.
    """
    module, originals = half.graph, {node.name: node for node in single.graph.graph.nodes}
    casts = _Casts(module, single.graph)
    wide = [node for node in module.graph.nodes if node.name in set(names)]
    for node in wide:
        mine = {source.name: source for source in node.all_input_nodes}
        original = originals[node.name]

        def widened(source: Node, mine: dict[str, Node] = mine) -> Node:
            return casts.wide(mine[source.name])

        node.args, node.kwargs = map_arg(original.args, widened), map_arg(original.kwargs, widened)
        infer(module, node, casts.mode)
    for node in wide:
        outside = [user for user in node.users if user.name not in names]
        if outside and _is(node, torch.float32):
            narrow = casts.cast(node, torch.float16)
            for user in outside:
                user.replace_input_with(node, narrow)
    module.graph.lint()
    module.recompile()


class _Casts:
    """Makes every cast and every float32 weight once."""

    def __init__(self, module: GraphModule, single: GraphModule) -> None:
        self.module, self.single, self.mode = module, single, fake_mode(module.graph)
        self._wide: dict[Node, Node] = {}

    def wide(self, source: Node) -> Node:
        """The float32 form of what a node gives; the node itself where it is none of float16."""
        if not _is(source, torch.float16):
            return source
        if source not in self._wide:
            fixed = constant(self.module, source) is not None
            self._wide[source] = self._weight(source) if fixed else self.cast(source, torch.float32)
        return self._wide[source]

    def cast(self, source: Node, dtype: torch.dtype) -> Node:
        """A cast right behind its source, or behind the last placeholder and constant before it."""
        graph = self.module.graph
        with graph.inserting_after(_last_of_kind(source)):
            node = graph.call_function(overload("aten._to_copy"), (source,), {"dtype": dtype})
        self._finish(node, source)
        return node

    def _weight(self, source: Node) -> Node:
        name = f"{source.target}{_SUFFIX}"
        put_tensor(self.module, name, tensor_at(self.single, str(source.target)))
        with self.module.graph.inserting_after(source):
            node = self.module.graph.get_attr(name)
        self._finish(node, source)
        return node

    def _finish(self, node: Node, source: Node) -> None:
        infer(self.module, node, self.mode)
        if "stack_trace" in source.meta:
            node.meta["stack_trace"] = source.meta["stack_trace"]


def _last_of_kind(source: Node) -> Node:
    """Placeholders stay together at the head of a graph."""
    if source.op != "placeholder":
        return source
    return list(source.graph.find_nodes(op="placeholder"))[-1]


def _is(node: Node, dtype: torch.dtype) -> bool:
    value: Any = node.meta.get("val")
    return isinstance(value, Tensor) and value.dtype == dtype
