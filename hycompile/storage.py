"""What a Program keeps in memory, counted by storage, and who writes and reads each of its state buffers."""

from __future__ import annotations

from dataclasses import dataclass

from torch.fx import Node

from hycompile.attributes import is_state, state_writes, tensor_at
from hycompile.program import Method, Program
from hycompile.schema import is_call


@dataclass(frozen=True)
class Storage:
    """One piece of memory: ``names`` are all tensors that lie in it, by the name of the Program."""

    names: tuple[str, ...]
    size_bytes: int
    state: bool


@dataclass(frozen=True)
class StateUse:
    """One state buffer over all methods.

    Args:
        name: of the buffer.
        size_bytes: of its tensor.
        writers: ``method: node`` for each node whose value is written to it.
        readers: ``method: node`` for each other node that reads it, before the write or what was just written.
    """

    name: str
    size_bytes: int
    writers: tuple[str, ...]
    readers: tuple[str, ...]


def storages(program: Program) -> tuple[Storage, ...]:
    """Every distinct storage of a Program's weights and state, in graph order; tied names count once."""
    state = {use.name for use in state_uses(program)}
    found: dict[int, list[str]] = {}
    sizes: dict[int, int] = {}
    for name, tensor in program.tensors().items():
        memory = tensor.untyped_storage()
        found.setdefault(memory.data_ptr(), []).append(name)
        sizes[memory.data_ptr()] = memory.nbytes()
    return tuple(
        Storage(tuple(names), sizes[key], any(name in state for name in names)) for key, names in found.items()
    )


def stored_bytes(program: Program, *, state: bool | None = None) -> int:
    """Bytes of all distinct storages; only of state or only of weights, if asked."""
    return sum(storage.size_bytes for storage in storages(program) if state in (None, storage.state))


def state_uses(program: Program) -> tuple[StateUse, ...]:
    """Writers and readers of every state buffer, in the order in which the methods name them."""
    names: dict[str, int] = {}
    for method in program.methods.values():
        for node in method.graph.graph.find_nodes(op="get_attr"):
            if is_state(node):
                tensor = tensor_at(method.graph, str(node.target))
                names[str(node.target)] = tensor.numel() * tensor.element_size()
    uses: list[StateUse] = []
    for name, size in names.items():
        pairs = [(label, *_use(method, name)) for label, method in program.methods.items()]
        writers = tuple(f"{label}: {node.name}" for label, written, _ in pairs for node in written)
        readers = tuple(f"{label}: {node.name}" for label, _, read in pairs for node in read)
        uses.append(StateUse(name, size, writers, readers))
    return tuple(uses)


def _use(method: Method, name: str) -> tuple[list[Node], list[Node]]:
    """The node written to a buffer, if any, and the other nodes that read the buffer or that value."""
    write = state_writes(method.graph).get(name)
    written = [] if write is None else [node for node in write.all_input_nodes if node is not write.args[0]]
    held = [node for node in method.graph.graph.find_nodes(op="get_attr") if node.target == name]
    readers = {user for node in (*held, *written) for user in node.users if not is_call(user, "aten.copy_")}
    return written, sorted(readers - set(written))
