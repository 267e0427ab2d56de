"""What a method computes on the ranges of a draft, before these are written into its graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.fx import Node
from torch.fx.node import map_arg

from hycompile.attributes import tensor_at
from hycompile.passes.quantise.draft import Draft
from hycompile.passes.quantise.ranges import Range
from hycompile.program import Method, Step
from hycompile.schema import is_call


class Simulation:
    """Computes nodes on rounded values; gradients pass a rounding as if it were not there.

    Biases are not rounded: their grid is finer than what a search can tell.

    Args:
        method: in float.
        draft: its ranges, read anew for every node.
    """

    def __init__(self, method: Method, draft: Draft) -> None:
        self._method, self._draft = method, draft
        self._layers = {layer.node: layer for layer in draft.layers}
        self._outputs = {layer.output for layer in draft.layers if layer.output is not None}
        self._weights: dict[str, tuple[Range, Tensor]] = {}

    def run(self, inputs: Sequence[Any], watch: Callable[[Node, object], object]) -> None:
        """Compute every node in order; ``watch`` may return another value, which later nodes then read.

        Calls start from the captured state, and what they write to it is dropped.
        """
        values: dict[Node, Any] = {}
        given = iter(inputs)
        for node in self._method.graph.graph.nodes:
            if node.op == "placeholder":
                values[node] = next(given)
            elif node.op == "get_attr":
                values[node] = tensor_at(self._method.graph, str(node.target)).detach()
            elif node.op == "call_function" and not is_call(node, "aten.copy_"):
                values[node] = watch(node, self.compute(node, values))

    def compute(self, node: Node, values: Mapping[Node, Any]) -> Any:
        """What other nodes read of a node, of the values it reads; constants need not be among them."""
        return self.settled(node, self.raw(node, values))

    def raw(self, node: Node, values: Mapping[Node, Any]) -> Any:
        """The same before its own output is rounded."""
        layer = self._layers.get(node)

        def operand(source: Node) -> Any:
            if layer is not None and source is layer.weight:
                return self._weight(str(source.target))
            if source not in values:
                return tensor_at(self._method.graph, str(source.target)).detach()
            value = values[source]
            return self._rounded(source, value) if layer is not None and source in layer.inputs else value

        arguments, keywords = map_arg(node.args, operand), map_arg(node.kwargs, operand)
        return node.target(*arguments, **keywords)  # type: ignore[operator]

    def settled(self, node: Node, result: Any) -> Any:
        """What other nodes read of the result of one: rounded, if it is a layer's output."""
        return self._on_grid(node, result) if node in self._outputs else result

    def _rounded(self, point: Node, value: Tensor) -> Tensor:
        # What is made of an output that was rounded lies on its grid already.
        return value if self._draft.sources.get(point) in self._outputs else self._on_grid(point, value)

    def _on_grid(self, point: Node, value: Tensor) -> Tensor:
        return value + (self._draft.rounded(point, value.detach()) - value.detach())

    def _weight(self, name: str) -> Tensor:
        kept = self._draft.weights[name]
        if name not in self._weights or self._weights[name][0] is not kept:
            self._weights[name] = (kept, kept.round(tensor_at(self._method.graph, name).detach()))
        return self._weights[name][1]


def arguments_of(method: Method, step: Step) -> list[object]:
    """What the placeholders are given: the tensors of a step, and the numbers the graph was captured for."""
    tensors = iter(step.inputs)
    return [next(tensors) if isinstance(leaf, Tensor) else leaf for leaf in method.leaves()]
