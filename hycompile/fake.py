"""Shapes and dtypes of graph nodes: recomputes ``node.meta["val"]`` with fake tensors, symbolic sizes included."""

from __future__ import annotations

from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import map_arg

from hycompile.attributes import tensor_at


def fake_mode(graph: Graph) -> FakeTensorMode:
    """The mode all values of ``graph`` live in; a new one for a graph without tensors."""
    for node in graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, FakeTensor):
            return value.fake_mode
    return FakeTensorMode(allow_non_fake_inputs=True)


def infer(module: GraphModule, node: Node, mode: FakeTensorMode) -> None:
    """Set ``node.meta["val"]`` from its arguments' values; placeholders and the output keep theirs."""
    if node.op == "get_attr":
        node.meta["val"] = mode.from_tensor(tensor_at(module, str(node.target)).detach(), static_shapes=True)
    elif node.op == "call_function":
        values: Any = map_arg((node.args, node.kwargs), lambda argument: argument.meta["val"])
        if node.target is torch.ops.aten.copy_.default:
            node.meta["val"] = values[0][1]
            return
        with mode:
            node.meta["val"] = node.target(*values[0], **values[1])  # type: ignore[operator]


def infer_all(module: GraphModule, mode: FakeTensorMode | None = None) -> None:
    """Recompute the value of every node, in order."""
    mode = mode or fake_mode(module.graph)
    for node in module.graph.nodes:
        infer(module, node, mode)
