"""One method in several parts, for runtimes that take only so much at once: what crosses a cut is passed by name.

A part is a method of its own. What a later part needs of an earlier one is an output of the earlier and an input of the
later, once, however many nodes read it: a gated memory, a cache that was just written. State stays in one part.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.fx import Graph, GraphModule, Node

from hycompile.attributes import is_state
from hycompile.errors import PassError
from hycompile.normal_form import normalise
from hycompile.parity import Result, execute
from hycompile.program import Method
from hycompile.schema import is_call


@dataclass(frozen=True)
class Part:
    """One part: its method, and the names of the values it takes and gives, in the order of inputs and outputs."""

    method: Method
    takes: tuple[str, ...]
    gives: tuple[str, ...]


@dataclass(frozen=True)
class Cut:
    """The parts of a method in the order to run them, and the names of the whole's inputs and outputs."""

    parts: tuple[Part, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def crossing(self) -> dict[str, int]:
        """Every value that a part passes to later ones, and how many parts take it."""
        takes = [name for part in self.parts for name in part.takes if name not in self.inputs]
        return {name: takes.count(name) for name in dict.fromkeys(takes)}

    def run(self, inputs: Sequence[Tensor], state: dict[str, Tensor] | None = None) -> Result:
        """Run the parts one after the other, as :func:`hycompile.parity.execute` runs the whole."""
        values, final = dict(zip(self.inputs, inputs, strict=True)), dict[str, Tensor]()
        for part in self.parts:
            own = {name: tensor for name, tensor in (state or {}).items() if name in part.method.mutated()}
            result = execute(part.method, [values[name] for name in part.takes], state=own)
            values |= zip(part.gives, result.outputs, strict=True)
            final |= result.state
        return Result(tuple(values[name] for name in self.outputs), final)


def cut(method: Method, at: Sequence[str]) -> Cut:
    """Cut a method after each of the places named.

    Args:
        method: what to cut; it stays as it is.
        at: names of nodes, or paths of modules (``layers.3``: behind its last node), in the order of the graph.

    Raises:
        PassError: no such place, places out of order, sizes that depend on the input, or a buffer is read in one part
            and what is written to it is made in a later one.
    """
    return _Cutting(method, at).run()


class _Cutting:
    def __init__(self, method: Method, at: Sequence[str]) -> None:
        self.method, self.nodes = method, list(method.graph.graph.nodes)
        for node in method.input_nodes():
            if any(not isinstance(size, int) for size in node.meta["val"].shape):
                reason = f"sizes of {node.name} depend on the input"
                raise PassError("cut", reason, "capture the method with fixed sizes")
        self.last = len(at)
        self.place = _places(self.nodes, at)
        for node in self.nodes:
            if node.op == "get_attr" and is_state(node):
                self.place[node] = self._home(node)
        self.place |= {node: 0 for node in method.output_nodes() if node.op == "get_attr" and node not in self.place}

    def run(self) -> Cut:
        inputs = self.method.input_nodes()
        outputs = self.method.output_nodes()
        values = dict(zip((node.name for node in inputs), self.method.flat_inputs(), strict=True))
        parts: list[Part] = []
        for index in range(self.last + 1):
            part = self._part(index, values, outputs)
            values |= zip(part.gives, execute(part.method).outputs, strict=True)
            parts.append(part)
        return Cut(tuple(parts), tuple(node.name for node in inputs), tuple(node.name for node in outputs))

    def _home(self, state: Node) -> int:
        """The part that keeps a buffer: the first one that reads it; its write happens there, too."""
        writes = [user for user in state.users if is_call(user, "aten.copy_")]
        readers = [self.place[user] for user in state.users if user not in writes]
        made = [self.place[value] for write in writes for value in write.all_input_nodes if value in self.place]
        home = min((*readers, *made), default=0)
        if any(place > home for place in made):
            raise PassError(
                f"cut of state {state.target!r}",
                f"part {home} reads it and part {max(made)} makes what is written to it; a buffer lives in one part",
                "cut before its first reader, or behind the node that is written",
            )
        self.place |= dict.fromkeys(writes, home)
        return home

    def _part(self, index: int, values: dict[str, Tensor], outputs: tuple[Node, ...]) -> Part:
        own = [node for node in self.nodes if self.place.get(node) == index]
        gives = [node for node in own if node in outputs or any(self._later(user, index) for user in node.users)]
        read = {source for node in own for source in node.all_input_nodes}
        constants = [node for node in self.nodes if node in read and node.op == "get_attr" and node not in self.place]
        takes = [node for node in self.nodes if node in read and node not in (*own, *constants)]
        graph, copies = Graph(), dict[Node, Node]()
        for node in takes:
            copies[node] = graph.placeholder(node.name)
            copies[node].meta["val"] = node.meta["val"]
        for node in (*constants, *own):
            copies[node] = graph.node_copy(node, lambda source: copies[source])
        graph.output(tuple(copies[node] for node in gives))
        module = GraphModule(self.method.graph, graph)
        normalise(module)
        names = tuple(node.name for node in takes)
        return Part(Method(module, tuple(values[name] for name in names)), names, tuple(node.name for node in gives))

    def _later(self, user: Node, index: int) -> bool:
        return self.place.get(user, index) > index


def _places(nodes: list[Node], at: Sequence[str]) -> dict[Node, int]:
    """The part of every operator: by its place in the graph; pieces of a tuple stay with what makes it."""
    ends = [_position(nodes, place) for place in at]
    if ends != sorted(set(ends)):
        raise PassError(f"cut at {list(at)}", "the places are not in the order of the graph", "name them as they run")
    found: dict[Node, int] = {}
    for position, node in enumerate(nodes):
        if node.op == "call_function" and not is_call(node, "aten.copy_"):
            source: Any = node.args[0] if node.target is operator.getitem else None
            found[node] = found[source] if source is not None else sum(end < position for end in ends)
    return found


def _position(nodes: list[Node], place: str) -> int:
    """Where the node of that name stands, or the last one of the module of that path."""
    operators = [(position, node) for position, node in enumerate(nodes) if node.op == "call_function"]
    named = [position for position, node in operators if node.name == place]
    within = [position for position, node in operators if place in _modules(node)]
    if not named and not within:
        raise PassError(
            f"cut at {place!r}", "no node or module of that name", "Program.text() shows the names of nodes"
        )
    return (named or within)[-1]


def _modules(node: Node) -> list[str]:
    stack: dict[str, tuple[str, Any]] = node.meta.get("nn_module_stack") or {}
    return [path for path, _ in stack.values()]
