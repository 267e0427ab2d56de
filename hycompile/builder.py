"""Building graph nodes from a rewrite: operators called on Values make nodes, tensors become buffers by themselves."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

from hycompile.attributes import put_tensor
from hycompile.errors import PassError
from hycompile.fake import fake_mode, infer
from hycompile.schema import bind, overload, parameters


@dataclass(frozen=True)
class Value:
    """A value computed at run time: the result of a node.

    ``value["stride"]`` is the node's argument of that schema name, defaults filled in.
    """

    node: Node

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape; symbolic sizes compare like ints as far as they are known."""
        return tuple(self.node.meta["val"].shape)

    @property
    def dtype(self) -> torch.dtype:
        return self.node.meta["val"].dtype

    def __getitem__(self, argument: str) -> Any:
        found = bind(self.node)[argument]
        return Value(found) if isinstance(found, Node) else found


class Builder:
    """Inserts nodes before one node of a graph.

    Args:
        module: the graph to build in.
        before: where new nodes go; they inherit its line of model source.
        prefix: what new buffers are called, numbered.
    """

    def __init__(self, module: GraphModule, before: Node, prefix: str) -> None:
        self.module, self.before, self.prefix = module, before, prefix
        self.mode = fake_mode(module.graph)
        self.created: list[Node] = []

    def call(self, operator: str | OpOverload, *args: Any, after: Value | None = None, **kwargs: Any) -> Value:
        """A node that calls ``operator``, at the rewritten node or ``after`` another; shape and dtype are computed."""
        target = overload(operator) if isinstance(operator, str) else operator
        node_args, node_kwargs = pytree.tree_map(self._argument, (args, kwargs))
        graph = self.module.graph
        with graph.inserting_after(after.node) if after else graph.inserting_before(self.before):
            node = graph.call_function(target, node_args, node_kwargs)
        return self._finish(node)

    def edit(self, value: Value, /, **arguments: Any) -> None:
        """Give an existing call other arguments, by schema name."""
        bound = bind(value.node)
        unknown = arguments.keys() - bound.keys()
        if unknown:
            raise PassError(f"edit of {value.node.name}", f"no argument {sorted(unknown)}", f"it takes {list(bound)}")
        bound |= {name: self._argument(new) for name, new in arguments.items()}
        keywords = {argument.name for argument in parameters(value.node.target) if argument.kwarg_only}
        value.node.args = tuple(given for name, given in bound.items() if name not in keywords)
        value.node.kwargs = {name: bound[name] for name in keywords}
        infer(self.module, value.node, self.mode)

    def constant(self, tensor: Tensor) -> Value:
        """A buffer holding ``tensor``, cast to the precision of the place it is used in."""
        value = self.before.meta["val"]
        if tensor.is_floating_point() and isinstance(value, Tensor) and value.is_floating_point():
            tensor = tensor.to(value.dtype)
        number = 0
        while hasattr(self.module, f"{self.prefix}_{number}"):
            number += 1
        name = f"{self.prefix}_{number}"
        put_tensor(self.module, name, tensor.detach().contiguous())
        first = next(iter(self.module.graph.nodes))
        with self.module.graph.inserting_before(first):
            return self._finish(self.module.graph.get_attr(name))

    def _argument(self, value: Any) -> Any:
        if isinstance(value, Value):
            return value.node
        return self.constant(value).node if isinstance(value, Tensor) else value

    def _finish(self, node: Node) -> Value:
        infer(self.module, node, self.mode)
        for key in ("stack_trace", "nn_module_stack"):
            if key in self.before.meta:
                node.meta[key] = self.before.meta[key]
        self.created.append(node)
        return Value(node)


_builder: ContextVar[Builder | None] = ContextVar("builder", default=None)


@contextmanager
def building(builder: Builder) -> Generator[Builder]:
    """Make ``builder`` the one :func:`call` uses."""
    token = _builder.set(builder)
    try:
        yield builder
    finally:
        _builder.reset(token)


def call(operator: str | OpOverload, *args: Any, after: Value | None = None, **kwargs: Any) -> Value:
    """Call an operator inside a rewrite function: ``call("aten.conv2d", x, weight, bias, [1, 1])``.

    Raises:
        PassError: outside a rewrite.
    """
    return _current(f"call({str(operator)!r})").call(operator, *args, after=after, **kwargs)


def edit(value: Value, /, **arguments: Any) -> None:
    """Give an existing call other arguments inside a rewrite function; only after every ``require`` has passed.

    Raises:
        PassError: outside a rewrite, or an argument the operator does not have.
    """
    _current(f"edit of {value.node.name}").edit(value, **arguments)


def _current(asked: str) -> Builder:
    builder = _builder.get()
    if builder is None:
        raise PassError(asked, "used outside a rewrite function", "call it from a function decorated with @rule")
    return builder
