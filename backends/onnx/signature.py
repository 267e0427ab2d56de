"""A method with nothing hidden: state is an input and an output, and half precision stays inside.

The stock exporter translates the graph and drops every buffer write without an error, so what comes out forgets its
state from call to call. Here each written buffer becomes an input ``state.NAME`` and an output ``state.NAME.out``
*before* the exporter sees the graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.graph import CodeGen
from torch.utils import _pytree as pytree

from hycompile.attributes import put_inputs_first, state_writes, storage_key, tensor_at
from hycompile.dynamic import dynamic_shapes_of
from hycompile.errors import Unsupported
from hycompile.program import Method, Program
from hycompile.schema import overload

STATE = "state."
NEXT = ".out"


@dataclass(frozen=True)
class Signature:
    """A flat, pure method: positional tensors in, a tuple of tensors out.

    Args:
        module: the graph; its placeholders are the inputs followed by the state it reads or writes.
        args: example values of the placeholders.
        dynamic_shapes: for ``torch.export.export``, one entry a placeholder.
        sizes: the method's own shape of each placeholder; a string names a dynamic size.
        inputs: names of the placeholders, state last.
        outputs: names of the results, next state last.
    """

    module: GraphModule
    args: tuple[Tensor, ...]
    dynamic_shapes: tuple[Any, ...]
    sizes: tuple[tuple[int | str, ...], ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def shared_state(program: Program) -> dict[str, Tensor]:
    """Every buffer that some method writes, with the value it was captured with.

    A buffer with two names appears once, under the first; methods share it.
    """
    state: dict[str, Tensor] = {}
    for method in program.methods.values():
        for name in method.mutated():
            if _name_in(state, method.graph, name) is None:
                state[name] = tensor_at(method.graph, name)
    return state


def explicit(method: Method, edges: Method, state: dict[str, Tensor]) -> Signature:
    """Make state and precision part of the signature; ``method`` itself stays as it is.

    Args:
        method: what to export.
        edges: the method before conversion to half precision, whose input and output types are kept; may be ``method``.
        state: from :func:`shared_state`.

    Raises:
        Unsupported: a state write cannot be expressed as an output.
    """
    module = method.copy().graph
    module.graph.set_codegen(CodeGen())
    put_inputs_first(module.graph)
    inputs = list(module.graph.find_nodes(op="placeholder"))
    writes = {_known(state, module, name): node for name, node in state_writes(module).items()}
    places = _state_placeholders(module, state, inputs)
    outputs = [*pytree.tree_leaves(module.graph.output_node().args[0]), *writes.values()]
    module.graph.output_node().args = (tuple(_written_value(node) for node in outputs),)
    for node in writes.values():
        module.graph.erase_node(node)
    _cast_edges(module, method, edges)
    module.graph.eliminate_dead_code()
    _expect_no_state_left(module, state)
    names = (*method.input_names(), *(f"{STATE}{name}" for name in places))
    results_named = _outputs(names, method.output_names())
    return Signature(
        module=GraphModule(module, module.graph),
        args=(*edges.flat_inputs(), *(state[name] for name in places)),
        dynamic_shapes=(*_dynamic(method), *(None for _ in places)),
        sizes=(*(_sizes(node.meta["val"]) for node in inputs), *(tuple(state[name].shape) for name in places)),
        inputs=names,
        outputs=(*results_named, *(f"{STATE}{name}{NEXT}" for name in writes)),
    )


def _name_in(state: dict[str, Tensor], module: GraphModule, name: str) -> str | None:
    """Under which name ``state`` holds the tensor that ``module`` calls ``name``."""
    key = storage_key(tensor_at(module, name))
    return next((known for known, tensor in state.items() if storage_key(tensor) == key), None)


def _known(state: dict[str, Tensor], module: GraphModule, name: str) -> str:
    known = _name_in(state, module, name)
    if known is None:
        raise Unsupported(f"state {name!r}", "is written but not part of the program's state", "report this as a bug")
    return known


def _state_placeholders(module: GraphModule, state: dict[str, Tensor], inputs: list[Node]) -> list[str]:
    """Turn every read of state into a placeholder behind ``inputs``; returns the state's names, in that order."""
    places: dict[str, Node] = {}
    for node in list(module.graph.find_nodes(op="get_attr")):
        name = _name_in(state, module, str(node.target))
        if name is None:
            continue
        if name not in places:
            after = [*inputs, *places.values()]
            with module.graph.inserting_after(after[-1]) if after else module.graph.inserting_before():
                places[name] = module.graph.placeholder(f"state_{len(places)}")
            places[name].meta["val"] = node.meta["val"]
        node.replace_all_uses_with(places[name])
        module.graph.erase_node(node)
    return list(places)


def _written_value(node: Node) -> Any:
    """What a state write leaves behind, also where a method returns the buffer it has just written."""
    return node.args[1] if node.target is overload("aten.copy_") else node


def _expect_no_state_left(module: GraphModule, state: dict[str, Tensor]) -> None:
    """A view of state under a third name would be frozen at its first value: refuse."""
    storages = {tensor.untyped_storage().data_ptr(): name for name, tensor in state.items()}
    for node in module.graph.find_nodes(op="get_attr"):
        value = tensor_at(module, str(node.target))
        name = storages.get(value.untyped_storage().data_ptr())
        if name is not None:
            raise Unsupported(
                f"state {name!r}",
                f"constant {str(node.target)!r} is a view of it, and would not follow its writes",
                "read the buffer itself in the model",
            )


def _cast_edges(module: GraphModule, method: Method, edges: Method) -> None:
    """Give inputs and outputs the types they have in ``edges``, with casts right behind and before them."""
    graph, cast = module.graph, overload("aten._to_copy")
    for node, outer in zip(
        graph.find_nodes(op="placeholder"), edges.graph.graph.find_nodes(op="placeholder"), strict=False
    ):
        inner_type, outer_type = node.meta["val"].dtype, outer.meta["val"].dtype
        if inner_type != outer_type:
            with graph.inserting_after(list(graph.find_nodes(op="placeholder"))[-1]):
                inner = graph.call_function(cast, (node,), {"dtype": inner_type})
            node.replace_all_uses_with(inner, delete_user_cb=lambda user, inner=inner: user is not inner)
    results = list(graph.output_node().args[0])  # type: ignore[arg-type]
    for index, outer in enumerate(edges.output_nodes()):
        dtype: torch.dtype = outer.meta["val"].dtype
        if method.output_nodes()[index].meta["val"].dtype != dtype:
            with graph.inserting_before(graph.output_node()):
                results[index] = graph.call_function(cast, (results[index],), {"dtype": dtype})
    graph.output_node().args = (tuple(results),)


def _outputs(inputs: tuple[str, ...], outputs: tuple[str, ...]) -> tuple[str, ...]:
    """ONNX has one name space for values: an output named as an input gets a suffix."""
    return tuple(f"{name}_out" if name in inputs else name for name in outputs)


def _sizes(value: Any) -> tuple[int | str, ...]:
    return tuple(size if isinstance(size, int) else str(size) for size in value.shape)


def _dynamic(method: Method) -> tuple[Any, ...]:
    """Per input, its dynamic axes with their ranges."""
    inputs = method.flat_inputs()
    if all(isinstance(size, int) for node in _inputs(method) for size in node.meta["val"].shape):
        return (None,) * len(inputs)
    return dynamic_shapes_of(method.export(), inputs, {}) or (None,) * len(inputs)


def _inputs(method: Method) -> list[Node]:
    return list(method.graph.graph.find_nodes(op="placeholder"))
