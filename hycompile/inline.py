"""Torch functions put into graphs as the operators they are made of: one node becomes many, in normal form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.fx.node import map_arg
from torch.utils import _pytree as pytree

from hycompile.attributes import put_tensor, tensor_at
from hycompile.builder import Builder
from hycompile.errors import PassError
from hycompile.normal_form import normalise
from hycompile.quiet import quiet_torch
from hycompile.rewrite import Refused, erase_dead
from hycompile.schema import bind, is_call, overload

Function = Callable[..., Any]
_CONSTANT = "constant_of_trace"


class Inliner:
    """Replaces nodes by functions; equal calls are traced once, equal constants of one graph stored once.

    What a function computes from its shapes alone (masks, ranges) is computed here and becomes a buffer. ``prefix``
    names those buffers, numbered.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._traces: dict[object, GraphModule] = {}
        self._constants: dict[object, Node] = {}

    def inline(self, module: GraphModule, node: Node, function: Function, **options: Any) -> None:
        """Replace ``node`` by what ``function`` does with the node's arguments, given by schema name, and ``options``.

        A node with several results is replaced through the ``getitem`` nodes that take them.

        Raises:
            Refused: the function needs a size that this graph leaves open.
            PassError: its results differ from the node's in number, shape or type.
        """
        leaves, spec = pytree.tree_flatten(bind(node))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Node)]
        trace = self._trace(function, options, leaves, spec)
        builder, kept = Builder(module, node, self._prefix), _kept(node)
        made: dict[Node, Node] = {}
        created: list[Node] = []
        placeholders = iter(tensors)
        for inner in trace.graph.nodes:
            if inner.op == "placeholder":
                made[inner] = next(placeholders)
            elif inner.op == "get_attr":
                made[inner] = self._constant(builder, tensor_at(trace, str(inner.target)))
            elif inner.op == "call_function":
                with module.graph.inserting_before(node):
                    made[inner] = module.graph.node_copy(inner, made.__getitem__)
                made[inner].meta = {"val": inner.meta["val"], **kept}
                created.append(made[inner])
        results = [made[leaf] for leaf in pytree.tree_leaves(trace.graph.output_node().args[0])]
        _replace(module, node, results)
        for last in reversed(created):
            if not last._erased and not last.users:
                erase_dead(module, last)

    def _trace(self, function: Function, options: dict[str, Any], leaves: list[Any], spec: Any) -> GraphModule:
        mode = next(leaf.meta["val"].fake_mode for leaf in leaves if isinstance(leaf, Node))
        key = (mode, function, tuple(sorted(options.items())), str(spec), *map(_signature, leaves))
        if key not in self._traces:
            self._traces[key] = _traced(mode, function, options, leaves, spec)
        return self._traces[key]

    def _constant(self, builder: Builder, tensor: Tensor) -> Node:
        content = id(tensor) if tensor.is_meta else tensor.numpy().tobytes()
        key = (id(builder.module), tensor.dtype, tuple(tensor.shape), content)
        known = self._constants.get(key)
        if known is None or known._erased:
            known = self._constants[key] = builder.constant(tensor).node
        return known


def _kept(node: Node) -> dict[str, Any]:
    """Which line of model source a node comes from."""
    return {key: node.meta[key] for key in ("stack_trace", "nn_module_stack") if key in node.meta}


def _traced(
    mode: FakeTensorMode, function: Function, options: dict[str, Any], leaves: list[Any], spec: Any
) -> GraphModule:
    """The function over the values of the nodes among its arguments, as a graph with a placeholder for each."""
    values: list[Tensor] = [leaf.meta["val"] for leaf in leaves if isinstance(leaf, Node)]

    def call(*tensors: Tensor) -> Any:
        given = iter(tensors)
        complete = [next(given) if isinstance(leaf, Node) else leaf for leaf in leaves]
        return function(**pytree.tree_unflatten(complete, spec), **options)

    guards = _guards(mode)
    with quiet_torch(), torch.no_grad(), mode:
        module = make_fx(call, pre_dispatch=True)(*values)
    if _guards(mode) != guards:
        raise Refused("the form needs a fixed size where a size is dynamic")
    for node in module.graph.nodes:
        if is_call(node, "aten.to.dtype"):
            node.target, node.args, node.kwargs = overload("aten._to_copy"), node.args[:1], {"dtype": node.args[1]}
    normalise(module)
    _fold_constants(module)
    return module


def _guards(mode: FakeTensorMode) -> int:
    """How many facts about dynamic sizes were needed so far."""
    return len(mode.shape_env.guards) if mode.shape_env is not None else 0


def _fold_constants(module: GraphModule) -> None:
    """Compute what depends on no input; an expanded constant stays expanded, for a buffer would take its full size."""
    values: dict[Node, Tensor] = {}
    for node in module.graph.nodes:
        if node.op == "get_attr":
            values[node] = tensor_at(module, str(node.target))
        elif (
            node.op == "call_function" and not is_call(node, "aten.expand") and values.keys() >= {*node.all_input_nodes}
        ):
            args, kwargs = map_arg((node.args, node.kwargs), lambda source: values[source])  # type: ignore[arg-type, return-value]
            values[node] = node.target(*args, **kwargs)  # type: ignore[operator, misc]
    for number, (node, value) in enumerate(values.items()):
        if node.op == "call_function" and any(user not in values for user in node.users):
            put_tensor(module, f"{_CONSTANT}_{number}", value.clone())
            with module.graph.inserting_before(node):
                folded = module.graph.get_attr(f"{_CONSTANT}_{number}")
            node.replace_all_uses_with(folded)
    module.graph.eliminate_dead_code()


def _signature(leaf: Any) -> object:
    if not isinstance(leaf, Node):
        return leaf
    value: Tensor = leaf.meta["val"]
    # As text, because symbolic sizes have no hash.
    return value.dtype, value.device, str(list(value.shape))


def _replace(module: GraphModule, node: Node, results: list[Node]) -> None:
    value = node.meta["val"]
    expected = list(value) if isinstance(value, tuple) else [value]
    alike = len(expected) == len(results) and all(map(_alike, expected, (result.meta["val"] for result in results)))
    if not alike:
        found = [result.meta["val"] for result in results]
        raise PassError(
            f"node {node.name}", f"{_texts(expected)} replaced by {_texts(found)}", "return what it returned"
        )
    if not isinstance(value, tuple):
        node.replace_all_uses_with(results[0])
    else:
        for user in list(node.users):
            user.replace_all_uses_with(results[user.args[1]])  # type: ignore[index]
            module.graph.erase_node(user)
    module.graph.erase_node(node)


def _alike(one: Tensor, other: Tensor) -> bool:
    if one.dtype != other.dtype or one.ndim != other.ndim:
        return False
    return not any(statically_known_true(a != b) for a, b in zip(one.shape, other.shape, strict=True))


def _texts(values: list[Tensor]) -> str:
    return ", ".join(f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}" for value in values)
