"""Operators the ONNX exporter has no translation for, found without exporting."""

from __future__ import annotations

import operator
from collections import Counter
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.fx import Graph, Node
from torch.utils import _pytree as pytree

from hycompile.backend import Obstacle
from hycompile.backends.onnx.groups import rows_refusal
from hycompile.backends.onnx.legalise import ATTENTION, attention_refusal, legalise
from hycompile.backends.onnx.opset import NATIVE
from hycompile.capture import export
from hycompile.program import Program, source_line
from hycompile.quiet import quiet_torch
from hycompile.schema import is_call, operator_name

# State writes become outputs, and the exporter leaves assertions out.
_SPARED = ("aten.copy_", "aten._assert_scalar", "aten._assert_tensor_metadata")
_WAY_OUT = "write it with other operators, or add a rewrite to backends/onnx/legalise.py"


def find_obstacles(program: Program, opset: int) -> list[Obstacle]:
    """One entry per operator and line of model source, in graph order."""
    translations = _translations(max(opset, NATIVE))
    found: Counter[tuple[str, str, str]] = Counter()
    for method in program.methods.values():
        module = method.copy().graph
        legalise(module)
        for node in module.graph.nodes:
            refusal = attention_refusal if is_call(node, ATTENTION) else translations.refusal
            reason = rows_refusal(node) or refusal(node)
            if reason is not None:
                found[operator_name(node), reason, source_line(node)] += 1
    return [Obstacle(name, count, reason, _WAY_OUT, where) for (name, reason, where), count in found.items()]


@cache
def _translations(opset: int) -> _Translations:
    """The exporter's registry takes a second to fill."""
    return _Translations(opset)


class _Translations:
    """What the exporter of one opset can translate, itself or after the decompositions it applies first."""

    def __init__(self, opset: int) -> None:
        from torch.onnx._internal.exporter import _decomp, _registration

        self._registry: Any = _registration.ONNXRegistry.from_torchlib(opset)
        implemented = set(_decomp.get_onnx_implemented_overloads(self._registry))
        self._table: Any = _decomp.create_onnx_friendly_decomposition_table(implemented)
        self._known: dict[str, str | None] = {}

    def refusal(self, node: Node) -> str | None:
        """Why a node has no translation; None if it has one."""
        if node.op != "call_function" or node.target is operator.getitem or is_call(node, *_SPARED):
            return None
        if self._registry.is_registered(node.target):
            return None
        key = f"{node.target} {pytree.tree_map(_kind, (node.args, node.kwargs))}"
        if key not in self._known:
            self._known[key] = self._decomposed_refusal(node)
        return self._known[key]

    def _decomposed_refusal(self, node: Node) -> str | None:
        """Decompose this call alone, on tensors of its arguments' shapes, and look at what comes out."""
        if not isinstance(node.target, OpOverload):
            return "torch's ONNX exporter has no translation for it"
        leaves, spec = pytree.tree_flatten((node.args, node.kwargs))
        tensors = {index: leaf for index, leaf in enumerate(leaves) if _is_tensor(leaf)}
        rest = [None if index in tensors else _plain(leaf) for index, leaf in enumerate(leaves)]
        call = _Call(node.target, list(tensors), rest, spec)
        examples = tuple(
            torch.zeros([int(size) for size in t.meta["val"].shape], dtype=t.meta["val"].dtype)
            for t in tensors.values()
        )
        try:
            with quiet_torch(), torch.no_grad():
                graph: Graph = export(call, examples, {}, None).run_decompositions(self._table).graph
        except RuntimeError:
            # It depends on more than its arguments' shapes (indices that zeros are not): only lowering can tell.
            return None
        targets = [
            inner.target
            for inner in graph.nodes
            if inner.op == "call_function" and inner.target is not operator.getitem
        ]
        lacking = dict.fromkeys(str(target) for target in targets if not self._registry.is_registered(target))
        if not lacking:
            return None
        if str(node.target) in lacking:
            return "torch's ONNX exporter has no translation for it"
        return f"it decomposes into {', '.join(lacking)}, for which torch's ONNX exporter has no translation"


class _Call(nn.Module):
    """One operator call as a module of its tensor arguments; the other arguments are fixed."""

    def __init__(self, target: OpOverload, places: list[int], rest: list[Any], spec: pytree.TreeSpec) -> None:
        super().__init__()
        self._target, self._places, self._rest, self._spec = target, places, rest, spec

    def forward(self, *tensors: Tensor) -> Any:
        leaves = list(self._rest)
        for place, tensor in zip(self._places, tensors, strict=True):
            leaves[place] = tensor
        args, kwargs = pytree.tree_unflatten(leaves, self._spec)
        return self._target(*args, **kwargs)


def _is_tensor(leaf: Any) -> bool:
    return isinstance(leaf, Node) and isinstance(leaf.meta["val"], Tensor)


def _plain(leaf: Any) -> Any:
    """A symbolic size stands for its example value."""
    return int(leaf.meta["val"]) if isinstance(leaf, Node) else leaf


def _kind(leaf: Any) -> Any:
    """What a decomposition may depend on: rank and type of a tensor, the value of anything else."""
    if not isinstance(leaf, Node):
        return leaf
    value = leaf.meta["val"]
    return (value.dtype, value.ndim) if isinstance(value, Tensor) else "size"
