"""Patterns over the normal form. A pattern describes a node by its operator and its arguments' schema names.

    Call("aten.batch_norm", input=Call("aten.conv2d", input=Any("x"), weight=Const("w"), once=True), eps=Arg("eps"))

Names become the arguments of the rewrite function: ``Any`` arrives as a :class:`~hycompile.builder.Value`, ``Const``
as a real tensor, ``Arg`` as the plain Python value, a named ``Call`` as the Value it makes, with its arguments by name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any as Anything

import torch
from torch.fx import GraphModule, Node

from hycompile.builder import Value
from hycompile.errors import PassError
from hycompile.program import constant
from hycompile.schema import bind, is_call, overload, parameters

Captures = dict[str, Anything]


class Pattern(ABC):
    """Matches one argument of a node, or a node."""

    @abstractmethod
    def match(self, module: GraphModule, value: object, captures: Captures) -> Captures | None:
        """The captures with this pattern's own added, or None if ``value`` does not match."""

    @abstractmethod
    def names(self) -> set[str]:
        """Every name a match captures."""

    def depth(self) -> int:
        """How many calls deep it looks."""
        return 0


def _add(captures: Captures, name: str | None, value: object) -> Captures | None:
    """A name captured twice must be the same thing both times."""
    if name is None:
        return captures
    if name in captures and captures[name] is not value and captures[name] != value:
        return None
    return captures | {name: value}


@dataclass(frozen=True)
class Any(Pattern):
    """Any value computed at run time (or a constant not asked to be one); arrives as a Value."""

    name: str | None = None

    def match(self, module: GraphModule, value: object, captures: Captures) -> Captures | None:
        return _add(captures, self.name, Value(value)) if isinstance(value, Node) else None

    def names(self) -> set[str]:
        return {self.name} if self.name else set()


@dataclass(frozen=True)
class Const(Pattern):
    """A constant tensor; arrives as a real tensor, in float32 at least. An optional one may be absent: None."""

    name: str | None = None
    optional: bool = False

    def match(self, module: GraphModule, value: object, captures: Captures) -> Captures | None:
        if value is None and self.optional:
            return captures | {self.name: None} if self.name else captures
        tensor = constant(module, value)
        if tensor is None:
            return None
        if self.name is None:
            return captures
        wide = tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
        known = captures.get(self.name, wide)
        # Tensors on the meta device are equal only if they are one: they have no values.
        same = known is wide or (known is not None and not wide.is_meta and torch.equal(known, wide))
        return captures | {self.name: wide} if same else None

    def names(self) -> set[str]:
        return {self.name} if self.name else set()


@dataclass(frozen=True)
class Arg(Pattern):
    """An argument that is not a tensor: a number, a list of sizes, a flag, or None."""

    name: str

    def match(self, module: GraphModule, value: object, captures: Captures) -> Captures | None:
        return None if isinstance(value, Node) else _add(captures, self.name, value)

    def names(self) -> set[str]:
        return {self.name}


@dataclass(frozen=True)
class OneOf(Pattern):
    """The first alternative that matches; names missing from it arrive as None."""

    alternatives: tuple[Pattern, ...]

    def __init__(self, *alternatives: Pattern) -> None:
        object.__setattr__(self, "alternatives", alternatives)

    def match(self, module: GraphModule, value: object, captures: Captures) -> Captures | None:
        for alternative in self.alternatives:
            found = alternative.match(module, value, captures)
            if found is not None:
                return dict.fromkeys(self.names()) | found
        return None

    def names(self) -> set[str]:
        return set[str]().union(*(alternative.names() for alternative in self.alternatives))

    def depth(self) -> int:
        return max(alternative.depth() for alternative in self.alternatives)


class Call(Pattern):
    """A call of one of the operators, its arguments by schema name; arguments not mentioned may be anything.

    Args:
        operator: ``"aten.conv2d"`` or several of them.
        name: captures the call itself.
        once: the value has exactly one user, so that rewriting it disturbs nobody else.
        commutative: the first two arguments may stand in either order.
        arguments: patterns or plain values, by schema name.

    Raises:
        PassError: an operator has no argument of that name, so that the pattern would never match.
    """

    def __init__(
        self,
        operator: str | tuple[str, ...],
        /,
        *,
        name: str | None = None,
        once: bool = False,
        commutative: bool = False,
        **arguments: Anything,
    ) -> None:
        self.operators = (operator,) if isinstance(operator, str) else operator
        self.name, self.once, self.commutative, self.arguments = name, once, commutative, arguments
        for target in self.operators:
            known = [parameter.name for parameter in parameters(overload(target))]
            unknown = sorted(arguments.keys() - set(known))
            if unknown:
                raise PassError(f"pattern of {target}", f"no argument {unknown}", f"it takes {known}")

    def match(self, module: GraphModule, value: object, captures: Captures) -> Captures | None:
        if not isinstance(value, Node) or not is_call(value, *self.operators):
            return None
        if self.once and len(value.users) != 1:
            return None
        own = _add(captures, self.name, Value(value))
        if own is None:
            return None
        bound = bind(value)
        found = self._match_arguments(module, bound, own)
        if found is None and self.commutative:
            first, second, *_ = bound
            swapped = bound | {first: bound[second], second: bound[first]}
            found = self._match_arguments(module, swapped, own)
        return found

    def _match_arguments(self, module: GraphModule, bound: Captures, captures: Captures) -> Captures | None:
        found: Captures | None = captures
        for argument, pattern in self.arguments.items():
            if isinstance(pattern, Pattern):
                found = pattern.match(module, bound[argument], found)
            elif bound[argument] != pattern:
                return None
            if found is None:
                return None
        return found

    def names(self) -> set[str]:
        inner = [pattern.names() for pattern in self.arguments.values() if isinstance(pattern, Pattern)]
        return ({self.name} if self.name else set[str]()).union(*inner)

    def depth(self) -> int:
        return 1 + max((p.depth() for p in self.arguments.values() if isinstance(p, Pattern)), default=0)
