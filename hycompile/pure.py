"""A method with nothing hidden: the state it reads and writes becomes inputs and outputs."""

from __future__ import annotations

from dataclasses import dataclass

from torch.export import ExportedProgram
from torch.fx import GraphModule, Node
from torch.fx.graph import CodeGen

from hycompile.attributes import put_inputs_first, state_writes, storage_key, tensor_at
from hycompile.errors import Unsupported
from hycompile.program import Method


@dataclass(frozen=True)
class PureMethod:
    """A flat function of tensors.

    Args:
        exported: takes the method's flat inputs, then its state; returns its flat outputs, then the state after.
        inputs: names of the inputs alone.
        outputs: names of the outputs alone.
        state: names of the state buffers, in the order they are taken and returned.
    """

    exported: ExportedProgram
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    state: tuple[str, ...]


def pure(method: Method) -> PureMethod:
    """Make the state of ``method`` explicit; ``method`` itself stays as it is. Dynamic shapes are kept.

    Raises:
        Unsupported: a constant is a view of state, and would not follow the state's writes.
    """
    from hycompile.capture import export
    from hycompile.dynamic import dynamic_shapes_of

    exported, state = method.export(), method.mutated()
    if state:
        shapes = dynamic_shapes_of(exported, method.flat_inputs(), {})
        shapes = (*shapes, *([None] * len(state))) if shapes is not None else None
        initial = [tensor_at(method.graph, name).clone() for name in state]
        exported = export(_explicit_state(method), (*method.flat_inputs(), *initial), {}, shapes)
    return PureMethod(exported, method.input_names(), method.output_names(), state)


def _explicit_state(method: Method) -> GraphModule:
    """The graph with a placeholder for each state buffer behind the others, and its last value behind the outputs."""
    method = method.copy()
    module, graph, outputs = method.graph, method.graph.graph, method.output_nodes()
    put_inputs_first(graph)
    writes = state_writes(module)
    results = [*outputs, *(node.args[1] for node in writes.values())]
    for node in writes.values():
        graph.erase_node(node)
    for index, name in enumerate(writes):
        _take_as_input(module, name, index)
    graph.output_node().args = (tuple(results),)
    graph.set_codegen(CodeGen())
    _refuse_views(module, list(writes))
    graph.lint()
    return GraphModule(module, graph)


def _take_as_input(module: GraphModule, name: str, index: int) -> None:
    """Replace every read of a buffer, under any of its names, by a new last placeholder."""
    graph, key = module.graph, storage_key(tensor_at(module, name))
    reads = [
        node for node in graph.find_nodes(op="get_attr") if storage_key(tensor_at(module, str(node.target))) == key
    ]
    placeholders = list(graph.find_nodes(op="placeholder"))
    with graph.inserting_after(placeholders[-1]) if placeholders else graph.inserting_before():
        placeholder: Node = graph.placeholder(f"state_{index}")
    placeholder.meta["val"] = reads[0].meta["val"]
    for node in reads:
        node.replace_all_uses_with(placeholder)
        graph.erase_node(node)


def _refuse_views(module: GraphModule, state: list[str]) -> None:
    storages = {tensor_at(module, name).untyped_storage().data_ptr(): name for name in state}
    for node in module.graph.find_nodes(op="get_attr"):
        name = storages.get(tensor_at(module, str(node.target)).untyped_storage().data_ptr())
        if name is not None:
            raise Unsupported(
                f"state {name!r}",
                f"constant {str(node.target)!r} is a view of it, and would not follow its writes",
                "read the buffer itself in the model",
            )
