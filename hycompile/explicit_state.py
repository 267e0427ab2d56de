"""State made explicit, for formats that hold none: written buffers become inputs and outputs of the function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.export import Dim
from torch.fx import Graph, GraphModule, Node
from torch.fx.graph import CodeGen
from torch.utils import _pytree as pytree

from hycompile.attributes import put_inputs_first, state_writes, storage_key, tensor_at
from hycompile.errors import Unsupported
from hycompile.program import Method, Program


@dataclass(frozen=True)
class Signature:
    """A pure method over flat tensors.

    Args:
        module: the graph; placeholders are the method's inputs, then the state it reads or writes.
        args: example values of the placeholders.
        dynamic_shapes: for ``torch.export.export``; None where every size is fixed.
        state_in: names of the state placeholders, in order.
        state_out: names of the state returned behind the method's own outputs, in order.
        outputs: how many outputs the method itself has.
    """

    module: GraphModule
    args: tuple[Tensor, ...]
    dynamic_shapes: Any
    state_in: tuple[str, ...]
    state_out: tuple[str, ...]
    outputs: int

    @property
    def input_types(self) -> tuple[str, ...]:
        """Torch types of the method's own inputs."""
        own = self.args[: len(self.args) - len(self.state_in)]
        return tuple(str(value.dtype).removeprefix("torch.") for value in own)


def state_of(program: Program) -> dict[str, Tensor]:
    """Every buffer some method writes, with its captured value; one with two names appears under the first."""
    state: dict[str, Tensor] = {}
    for method in program.methods.values():
        for name in method.mutated():
            tensor = tensor_at(method.graph, name)
            if _name_of(state, tensor) is None:
                state[name] = tensor
    return state


def make_explicit(method: Method, state: dict[str, Tensor]) -> Signature:
    """A copy of ``method`` without buffers that change.

    Raises:
        Unsupported: a constant of the graph is a view of written state, so that the write would be lost to it; or a
            write is to part of a buffer.
    """
    module = method.copy().graph
    graph = module.graph
    graph.set_codegen(CodeGen())
    put_inputs_first(graph)
    inputs = list(graph.find_nodes(op="placeholder"))
    writes = state_writes(module)
    final = {_known(state, module, name): node.args[1] for name, node in writes.items()}
    outputs: list[Any] = [_after_write(node) for node in pytree.tree_leaves(graph.output_node().args[0])]
    places = _placeholders(module, state, inputs)
    graph.output_node().args = ((*outputs, *final.values()),)
    for node in writes.values():
        graph.erase_node(node)
    _refuse_other_writes(graph)
    graph.eliminate_dead_code()
    _refuse_views(module, state)
    examples = (*method.flat_inputs(), *(state[name] for name in places))
    shapes = tuple(_dynamic_axes(node.meta["val"]) for node in inputs) + (None,) * len(places)
    return Signature(
        GraphModule(module, graph),
        examples,
        shapes if any(shapes) else None,
        tuple(places),
        tuple(final),
        len(outputs),
    )


def _name_of(state: dict[str, Tensor], tensor: Tensor) -> str | None:
    key = storage_key(tensor)
    return next((name for name, known in state.items() if storage_key(known) == key), None)


def _known(state: dict[str, Tensor], module: GraphModule, name: str) -> str:
    known = _name_of(state, tensor_at(module, name))
    if known is None:
        raise Unsupported(f"state {name!r}", "is written but is no state of the program", "report it as a bug")
    return known


def _after_write(node: Any) -> Any:
    """What is returned for a node; a returned write stands for the value it wrote."""
    writes = isinstance(node, Node) and getattr(node.target, "__name__", "") == "copy_.default"
    return node.args[1] if writes else node


def _placeholders(module: GraphModule, state: dict[str, Tensor], inputs: list[Node]) -> dict[str, Node]:
    """Turn reads of state into placeholders behind the inputs."""
    graph: Graph = module.graph
    places: dict[str, Node] = {}
    last = inputs[-1] if inputs else None
    for node in list(graph.find_nodes(op="get_attr")):
        name = _name_of(state, tensor_at(module, str(node.target)))
        if name is None:
            continue
        if name not in places:
            with graph.inserting_after(last) if last is not None else graph.inserting_before():
                places[name] = last = graph.placeholder(f"state_{len(places)}")
            places[name].meta["val"] = node.meta["val"]
        node.replace_all_uses_with(places[name])
        graph.erase_node(node)
    return places


def _refuse_other_writes(graph: Graph) -> None:
    """The front end would translate a write to part of a buffer as a value that nobody takes."""
    for node in graph.nodes:
        if node.op == "call_function" and getattr(node.target, "__name__", "") == "copy_.default":
            raise Unsupported(
                f"write {node.name!r} to {node.args[0]!s}",
                "it is no whole buffer, and the write would be lost",
                "report it with the pipeline: capture leaves none, so a pass did",
            )


def _refuse_views(module: GraphModule, state: dict[str, Tensor]) -> None:
    owners = {tensor.untyped_storage().data_ptr(): name for name, tensor in state.items()}
    for node in module.graph.find_nodes(op="get_attr"):
        owner = owners.get(tensor_at(module, str(node.target)).untyped_storage().data_ptr())
        if owner is not None:
            raise Unsupported(
                f"state {owner!r}",
                f"constant {str(node.target)!r} is a view of it and would keep its first value",
                "read the buffer itself in the model",
            )


def _dynamic_axes(value: Any) -> dict[int, Any] | None:
    """Dynamic axes of an input: a ``Dim`` of the symbol's own range, or inferred where the size is an expression."""
    found: dict[int, Any] = {}
    for axis, size in enumerate(value.shape):
        if isinstance(size, int):
            continue
        expression, bounds = size.node.expr, None
        if expression.is_Symbol and size.node.shape_env is not None:
            bounds = size.node.shape_env.var_to_range[expression]
        found[axis] = (
            Dim.AUTO
            if bounds is None
            else Dim(str(expression), min=int(bounds.lower), max=int(bounds.upper) if bounds.upper.is_finite else None)
        )
    return found or None
