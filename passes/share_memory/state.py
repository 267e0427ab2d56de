"""State buffers that are always equal, found by numbering values: equal operators of equal values have one number.

The numbering assumes what it is to show, that buffers which start equal are equal before a call, and takes back every
assumption that no call keeps: what remains holds before the first call and is kept by each (coinduction).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from hycompile.attributes import is_state, put_tensor, state_writes, storage_key, tensor_at
from hycompile.passes.share_memory.keys import call_key
from hycompile.program import Program
from hycompile.reports import Refusal
from hycompile.rewrite import erase_dead
from hycompile.storage import state_uses

_KEPT = "kept"


def merge_equal_state(program: Program) -> tuple[int, list[Refusal]]:
    """Leave one buffer of those that start equal and are written alike by every method; returns how many went away.

    Refused for buffers that are written alike but start with different content. On the meta device there is no content:
    nothing is known to start equal, and nothing is merged.
    """
    buffers = _buffers(program)
    if any(tensor.is_meta for tensor in buffers.values()):
        return 0, []
    groups = _equal(program, {name: _start(tensor) for name, tensor in buffers.items()})
    alike = _equal(program, {name: _kind(tensor) for name, tensor in buffers.items()})
    refusals = [
        Refusal(f"{other} is written like {group[0]} in every method, but starts with another content", other, "")
        for group in alike
        for other in group[1:]
        if not any(group[0] in equal and other in equal for equal in groups)
    ]
    merged = 0
    for kept, *others in groups:
        for other in others:
            for method in program.methods.values():
                _replace(method.graph, other, kept)
            merged += 1
    for method in program.methods.values():
        method.graph.graph.lint()
        method.graph.recompile()
    return merged, refusals


def _buffers(program: Program) -> dict[str, Tensor]:
    tensors = program.tensors()
    return {use.name: tensors[use.name] for use in state_uses(program) if use.writers}


def _kind(tensor: Tensor) -> Hashable:
    return tensor.dtype, tuple(tensor.shape)


def _start(tensor: Tensor) -> Hashable:
    return *_kind(tensor), tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()  # type: ignore[misc]


def _equal(program: Program, start: dict[str, Hashable]) -> list[list[str]]:
    """Groups of buffers that no method tells apart, if those of one ``start`` are equal before the first call."""
    keys: dict[str, Any] = dict(start)
    count = 0
    while True:
        numbers = {key: number for number, key in enumerate(dict.fromkeys(keys.values()))}
        classes = {name: numbers[key] for name, key in keys.items()}
        if len(numbers) == count:
            break
        count = len(numbers)
        written = [_written(method.graph, classes) for method in program.methods.values()]
        keys = {name: (classes[name], *(each.get(name, _KEPT) for each in written)) for name in keys}
    groups: dict[int, list[str]] = {}
    for name, number in classes.items():
        groups.setdefault(number, []).append(name)
    return list(groups.values())


def _written(module: GraphModule, classes: dict[str, int]) -> dict[str, int]:
    """The number of what a method writes to each buffer."""
    interned: dict[Hashable, int] = {}
    numbers: dict[Node, int] = {}
    for node in module.graph.nodes:
        numbers[node] = interned.setdefault(_value_key(module, node, classes, numbers.__getitem__), len(interned))
    return {name: numbers[write.args[1]] for name, write in state_writes(module).items()}  # type: ignore[index]


def _value_key(module: GraphModule, node: Node, classes: dict[str, int], number: Callable[[Node], int]) -> Hashable:
    if node.op == "get_attr":
        name = str(node.target)
        return ("state", classes[name]) if name in classes else ("constant", *storage_key(tensor_at(module, name)))
    return call_key(node, number) if node.op == "call_function" else node


def _replace(module: GraphModule, old: str, kept: str) -> None:
    """Let ``kept`` stand for ``old``: what both are written with is computed once, by whichever comes first."""
    nodes = {str(node.target): node for node in module.graph.find_nodes(op="get_attr") if is_state(node)}
    if old not in nodes:
        return
    if kept not in nodes:
        put_tensor(module, kept, tensor_at(module, old))
        nodes[old].target = kept
        return
    writes = state_writes(module)
    written: list[Any] = [writes[name].args[1] for name in (kept, old) if name in writes]
    if old in writes:
        module.graph.erase_node(writes[old])
    nodes[old].replace_all_uses_with(nodes[kept])
    module.graph.erase_node(nodes[old])
    for second in sorted(set(written))[1:]:
        second.replace_all_uses_with(min(written))
        erase_dead(module, second)
