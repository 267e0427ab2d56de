"""Tensors of a graph module by dotted name, and which of them are state."""

from __future__ import annotations

from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node

from hycompile.schema import is_call


def tensor_at(module: nn.Module, name: str) -> Tensor:
    """The tensor ``module`` holds under a dotted name."""
    *path, leaf = name.split(".")
    owner = module
    for part in path:
        owner = getattr(owner, part)
    return getattr(owner, leaf)


def put_tensor(module: nn.Module, name: str, tensor: Tensor) -> None:
    """Register ``tensor`` as a buffer under a dotted name, making the submodules on the way."""
    *path, leaf = name.split(".")
    owner = module
    for part in path:
        if not hasattr(owner, part):
            owner.add_module(part, nn.Module())
        owner = getattr(owner, part)
    if hasattr(owner, leaf):
        delattr(owner, leaf)
    owner.register_buffer(leaf, tensor)


def storage_key(tensor: Tensor) -> tuple[object, ...]:
    """Equal for two names of one tensor: judge sharing by storage, not by name."""
    storage = tensor.untyped_storage()
    return (
        # On the meta device every address is 0; the storage object tells them apart.
        storage._cdata if tensor.is_meta else storage.data_ptr(),  # pyright: ignore[reportPrivateUsage]
        tensor.storage_offset(),
        tuple(tensor.shape),
        tuple(tensor.stride()),
        str(tensor.dtype),
    )


def state_writes(module: GraphModule) -> dict[str, Node]:
    """Buffer name to the ``copy_`` node that writes its final value, in graph order."""
    writes: dict[str, Node] = {}
    for node in module.graph.nodes:
        if is_call(node, "aten.copy_"):
            target = node.args[0]
            if isinstance(target, Node) and target.op == "get_attr":
                writes[str(target.target)] = node
    return writes


def is_state(node: Node) -> bool:
    """Whether a ``get_attr`` node names a buffer that this method writes, or another method of its Program."""
    return bool(node.meta.get("state")) or any(is_call(user, "aten.copy_") for user in node.users)


def used_tensors(module: GraphModule) -> dict[str, Tensor]:
    """Every tensor a ``get_attr`` node with users names, by that name, in graph order."""
    nodes = [node for node in module.graph.nodes if node.op == "get_attr" and node.users]
    return {str(node.target): tensor_at(module, str(node.target)) for node in nodes}


def put_inputs_first(graph: Graph) -> None:
    """Move the placeholders to the head of a graph, in their order, so that what is put behind them precedes all users.

    Rewrites leave constants before them, and nodes that need nothing but state may stand right behind those.
    """
    head = next(node for node in graph.nodes if node.op != "placeholder")
    for node in graph.find_nodes(op="placeholder"):
        head.prepend(node)
