"""How much the outputs of a rounded method depend on each of its values."""

from __future__ import annotations

from collections.abc import Container, Mapping

import torch
from torch import Tensor
from torch.fx import Node
from torch.nn import functional as F

from hycompile.errors import PassError
from hycompile.parity import execute
from hycompile.passes.quantise.draft import Draft
from hycompile.passes.quantise.simulation import Simulation, arguments_of
from hycompile.program import Method, Step


def gradients_of(method: Method, draft: Draft, step: Step, wanted: Container[Node]) -> dict[Node, Tensor]:
    """Gradients, at the values of some nodes, of what rounding costs one call.

    The cost is the divergence of the rounded method's prediction from the float one's: the first output is taken as
    logits over its last axis. Nodes that no gradient reaches are left out.

    Raises:
        PassError: the first output holds no floating numbers that were computed.
    """
    simulation, seen = Simulation(method, draft), dict[Node, Tensor]()
    last = method.output_nodes()[0]

    def watch(node: Node, value: object) -> object:
        if isinstance(value, Tensor) and value.is_floating_point() and (node in wanted or node is last):
            if value.requires_grad:
                value.retain_grad()
            else:
                value = value.detach().requires_grad_()
            seen[node] = value
        return value

    known = execute(method, step.inputs).outputs[0]
    if last.op != "call_function" or not known.is_floating_point():
        raise PassError(
            f"output {last.name!r}",
            f"of {str(known.dtype).removeprefix('torch.')} is no prediction that a gradient could start from",
            "choose another method of quantise, or let the model return its logits first",
        )
    with torch.enable_grad():
        simulation.run(arguments_of(method, step), watch)
        cost = F.kl_div(F.log_softmax(seen[last], -1), F.softmax(known, -1), reduction="sum")
        cost.backward()  # type: ignore[no-untyped-call]
    return {node: value.grad for node, value in seen.items() if value.grad is not None and node in wanted}


def of_rows(gradients: Mapping[Node, Tensor], node: Node, rows: Tensor) -> Tensor:
    """The gradient at as many rows of a node's value as are given; zeros where none reached it."""
    return gradients[node][: len(rows)] if node in gradients else torch.zeros_like(rows)
