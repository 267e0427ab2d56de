"""Who uses what through which move: a graph with its reshapes and permutes on the edges."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch.fx import GraphModule, Node

from hycompile.passes.layout.chain import move_of, root, static_shape
from hycompile.passes.layout.move import Move
from hycompile.program import constant


@dataclass(frozen=True)
class Use:
    """``user`` takes ``argument``, which is ``move`` of ``origin``; no move where sizes are not known."""

    user: Node
    argument: Node
    origin: Node
    move: Move | None


@dataclass
class Uses:
    """Every use of a value computed at run time, by origin, user and argument; only what is no move uses anything."""

    by_origin: dict[Node, list[Use]] = field(default_factory=dict[Node, list[Use]])
    by_user: dict[Node, list[Use]] = field(default_factory=dict[Node, list[Use]])
    by_argument: dict[Node, list[Use]] = field(default_factory=dict[Node, list[Use]])

    @classmethod
    def of(cls, module: GraphModule) -> Uses:
        """All uses in a graph."""
        uses, pending, seen = cls(), list[Node](), set[Node]()
        for node in module.graph.nodes:
            if node.op in ("call_function", "output") and move_of(node) is None:
                pending.append(node)
        while pending:
            user = pending.pop()
            if user in seen:
                continue
            seen.add(user)
            for argument in user.all_input_nodes:
                if constant(module, argument) is not None:
                    continue
                origin, move = root(argument)
                use = Use(user, argument, origin, move if static_shape(argument) is not None else None)
                uses.by_origin.setdefault(origin, []).append(use)
                uses.by_user.setdefault(user, []).append(use)
                uses.by_argument.setdefault(argument, []).append(use)
                # A move that does not compose with those after it stays, and is a user like any other.
                if origin.op == "call_function":
                    pending.append(origin)
        return uses
