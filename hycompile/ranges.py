"""Which nodes of a graph float16 cannot compute, measured on inputs: values, sums and numbers outside its range."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node
from torch.utils import _pytree as pytree

from hycompile.attributes import tensor_at
from hycompile.schema import bind, is_call, is_view

# A quarter of the largest float16: other inputs than the examples may be larger.
LIMIT = torch.finfo(torch.float16).max / 4
# Half of the smallest float16 above zero: what is smaller rounds to zero.
_LOST = torch.finfo(torch.float16).smallest_normal * torch.finfo(torch.float16).eps / 2
_MEANS = ("aten.mean", "aten.mean.dim", "aten.adaptive_avg_pool2d")
_SQUARES = (
    "aten.layer_norm",
    "aten.group_norm",
    "aten.rms_norm",
    "aten.var.dim",
    "aten.var.correction",
    "aten.std.dim",
    "aten.std.correction",
)
_NORM = "aten.linalg_vector_norm"
_WITH_NUMBERS = ("aten.add.Tensor", "aten.add.Scalar", "aten.clamp", "aten.clamp_min")
_QUOTIENTS = ("aten.div.Tensor", "aten.reciprocal")


def wide_nodes(module: GraphModule, runs: Sequence[Sequence[Any]]) -> list[Node]:
    """The calls that must compute in float32, in graph order.

    These are: the calls that make a value above :data:`LIMIT`, or sum up one inside; those that take one; those with a
    number that float16 rounds to zero; and, where such values end in a quotient (linear attention), what they are
    computed from, back to the residual stream.

    Args:
        module: a graph whose floating values are float32.
        runs: values for the placeholders, run by run; a graph with state takes them as consecutive steps.
    """
    recorder = _Recorder(module)
    with torch.no_grad():
        for values in runs:
            recorder.run(*values, enable_io_processing=False)
    small = _small(module)
    takers = {user for node in recorder.wide | small for user in node.users}
    behind = _behind_quotients(recorder.wide)
    calls = {node for node in recorder.wide | recorder.inside | small | takers | behind if _computes(node)}
    return [node for node in module.graph.nodes if node in calls or _part_of(node) in calls]


class _Recorder(Interpreter):
    """Notes which nodes make a value that is too large, and which only sum one up inside."""

    def __init__(self, module: GraphModule) -> None:
        super().__init__(module)
        self.wide: set[Node] = set()
        self.inside: set[Node] = set()
        self.state: dict[str, Tensor] = {}

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        return self.state.get(str(target), tensor_at(self.module, str(target)))  # type: ignore[arg-type]

    def run_node(self, n: Node) -> Any:
        if is_call(n, "aten.copy_"):
            written, value = n.args[0], self.env[n.args[1]]  # type: ignore[index]
            if isinstance(written, Node):
                self.state[str(written.target)] = value
            return value
        value = super().run_node(n)
        if any(_magnitude(part) > LIMIT for part in pytree.tree_leaves(value)):
            self.wide.add(n)
        elif is_call(n, *_MEANS, *_SQUARES, _NORM) and self._sum_inside(n, value) > LIMIT:
            self.inside.add(n)
        return value

    def _sum_inside(self, node: Node, value: Any) -> float:
        """What a kernel without float32 sums would hold: a sum before its division, a square before its root."""
        given: Tensor = self.env[node.all_input_nodes[0]]
        if is_call(node, _NORM):
            return _magnitude(value) ** 2
        if is_call(node, *_SQUARES):
            return _magnitude(given) ** 2
        return _magnitude(value) * given.numel() / max(value.numel(), 1)


def _magnitude(value: Any) -> float:
    """The largest finite absolute value: an infinity is meant (a mask), and float16 holds it."""
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.numel() == 0:
        return 0.0
    low, high = (float(bound) for bound in torch.aminmax(value))
    largest = max(-low, high)
    if largest < float("inf"):
        return largest
    finite = value[torch.isfinite(value)]
    return float(finite.abs().max()) if finite.numel() else 0.0


def _computes(node: Node) -> bool:
    return node.op == "call_function" and not is_call(node, "aten.copy_") and node.target is not operator.getitem


def _part_of(node: Node) -> Node | None:
    """The call whose results a ``getitem`` picks from: both compute in one type."""
    return node.all_input_nodes[0] if node.target is operator.getitem else None


def _small(module: GraphModule) -> set[Node]:
    """Calls with a number that float16 makes zero, as the 1e-15 that keeps a divisor above it, and views of theirs.

    An epsilon inside a normalisation is added in float32 by every runtime's kernel.
    """
    found: set[Node] = set()
    for node in module.graph.nodes:
        numbers = bind(node).values() if is_call(node, *_WITH_NUMBERS) else ()
        lost = any(isinstance(number, float) and 0 < abs(number) < _LOST for number in numbers)
        if lost or (is_view(node.target) and node.args[0] in found):
            found.add(node)
    return found


def _behind_quotients(wide: set[Node]) -> set[Node]:
    """What the wide values that end in a quotient are computed from.

    A ratio of sums is badly conditioned where its divisor is small: there the rounding of what both are computed from
    is seen (efficientvit_b1: error 3.7e-2 without this, 4.3e-3 with it).
    """
    found: set[Node] = set()
    pending = [node for node in wide if any(is_call(user, *_QUOTIENTS) for user in _through(node, wide))]
    while pending:
        for source in pending.pop().all_input_nodes:
            if source not in found and _is_floating(source) and not _is_residual(source):
                found.add(source)
                pending.append(source)
    return found


def _through(node: Node, wide: set[Node]) -> Iterator[Node]:
    """Every node that takes the value, or another wide value computed from it."""
    seen: set[Node] = set()
    pending = [node]
    while pending:
        for user in pending.pop().users:
            if user not in seen:
                seen.add(user)
                yield user
                if user in wide:
                    pending.append(user)


def _is_floating(node: Node) -> bool:
    """Whether a call makes floating values; shape arithmetic has no precision."""
    values = [leaf for leaf in pytree.tree_leaves(node.meta.get("val")) if isinstance(leaf, Tensor)]
    return node.op == "call_function" and any(value.is_floating_point() for value in values)


def _is_residual(node: Node) -> bool:
    """A sum that more than one branch goes on from."""
    return is_call(node, "aten.add.Tensor") and len(node.users) > 1
