"""Which tensors of a Program are one: equal constants share storage, state of one name is one, names are unique."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.fx import Node

from hycompile.attributes import put_tensor, state_writes, storage_key, tensor_at
from hycompile.program import Method


def share(methods: Iterable[Method]) -> None:
    """Bring the tensors of methods that were captured, loaded or rewritten apart together again, in place.

    A buffer that any method writes is state in all of them: ``get_attr`` nodes that only read it are marked, so that no
    rule takes it for a constant. Constants equal bit for bit share storage, under their own names; on the meta device,
    where there are no bits, only those that share it already. A constant whose name stands for another tensor in
    another method is renamed.
    """
    _Sharing(list(methods)).run()


class _Sharing:
    def __init__(self, methods: list[Method]) -> None:
        self.methods = methods
        self.state = {name for method in methods for name in state_writes(method.graph)}
        self.taken = {str(node.target) for method in methods for node in method.graph.graph.find_nodes(op="get_attr")}
        self.names: dict[str, Tensor] = {}
        self.equal: dict[object, list[Tensor]] = {}

    def run(self) -> None:
        for method in self.methods:
            for node in method.graph.graph.find_nodes(op="get_attr"):
                if str(node.target) in self.state:
                    self._state(method, node)
                else:
                    self._constant(method, node)
            method.graph.recompile()

    def _state(self, method: Method, node: Node) -> None:
        name = str(node.target)
        tensor = tensor_at(method.graph, name)
        node.meta["state"] = True
        if self.names.setdefault(name, tensor) is not tensor:
            put_tensor(method.graph, name, self.names[name])

    def _constant(self, method: Method, node: Node) -> None:
        name = str(node.target)
        tensor = tensor_at(method.graph, name)
        known = self._first_equal(tensor)
        free = self._free_name(name, known)
        if free != name or known is not tensor:
            put_tensor(method.graph, free, known)
            node.target = free

    def _first_equal(self, tensor: Tensor) -> Tensor:
        if tensor.is_meta:
            return self.equal.setdefault(storage_key(tensor), [tensor])[0]
        start = bytes(_bits(tensor.detach().flatten()[:16]).tolist())
        alike = self.equal.setdefault((tensor.dtype, tuple(tensor.shape), start), [])
        for other in alike:
            if tensor is other or torch.equal(_bits(tensor), _bits(other)):
                return other
        alike.append(tensor)
        return tensor

    def _free_name(self, name: str, tensor: Tensor) -> str:
        free, number = name, 0
        while storage_key(self.names.setdefault(free, tensor)) != storage_key(tensor):
            number += 1
            free = f"{name}_{number}"
            while free in self.taken:
                number += 1
                free = f"{name}_{number}"
        self.taken.add(free)
        return free


def _bits(tensor: Tensor) -> Tensor:
    """Bit by bit, a zero differs from minus zero, and a NaN equals itself."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)
