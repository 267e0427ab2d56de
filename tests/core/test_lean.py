"""Graphs that are compiled when called: nothing changes but the time at which their source code is written."""

from __future__ import annotations

import inspect
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import GraphModule
from torch.fx.traceback import NodeSource

import hycompile as hy
from hycompile.lean import compile_now, compiled_when_called, short_histories
from hycompile.quiet import quiet_torch


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.linear(tokens).reshape(6) * 2.0


def program() -> hy.Program:
    torch.manual_seed(0)
    return hy.capture(Scaled().eval(), (torch.randn(2, 3),))


def depth(exported: ExportedProgram) -> int:
    """How many sources stand behind one another in the longest history of a node."""

    def of(sources: list[NodeSource]) -> int:
        return max((1 + of(source.from_node) for source in sources), default=0)

    return max(of(node.meta.get("from_node", [])) for node in exported.graph.nodes if node.op == "call_function")


def test_a_graph_is_compiled_when_it_is_called() -> None:
    with compiled_when_called():
        module = program().copy().methods["forward"].graph
        tokens = torch.randn(2, 3)
        node = next(iter(module.graph.find_nodes(op="call_function", target=torch.ops.aten.mul.Tensor)))
        before = module(tokens)
        node.args = (node.args[0], 4.0)
        module.recompile()
    assert "4.0" not in module.code
    torch.testing.assert_close(module(tokens), 2 * before)
    assert "4.0" in module.code


def test_compiling_now_restores_code_and_names_of_inputs() -> None:
    with compiled_when_called():
        module = program().copy().methods["forward"].graph
    assert "tokens" not in inspect.signature(module.forward).parameters
    compile_now(module)
    assert "tokens" in inspect.signature(module.forward).parameters


def test_what_a_pipeline_returns_is_compiled() -> None:
    rewritten, _ = hy.Pipeline.parse("reparameterise,layout")(program())
    module = rewritten.methods["forward"].graph
    assert "aten.linear" in module.code
    assert rewritten.methods["forward"].input_names() == ("tokens",)
    assert "tokens" in inspect.signature(module.forward).parameters


def test_an_export_inside_keeps_the_names_of_inputs() -> None:
    with compiled_when_called():
        exported = program().copy().methods["forward"].export()
    assert exported.graph_signature.user_inputs == ("tokens",)


@pytest.mark.parametrize("short", [False, True])
def test_the_history_of_a_node_does_not_grow(short: bool) -> None:
    exported = program().methods["forward"].export()
    with short_histories() if short else nullcontext(), quiet_torch():
        again = exported.run_decompositions({})
    grown = depth(again) - depth(exported)
    assert grown == (1 if short else 2)  # ExportedProgram.module() adds one itself.


def test_nothing_stays_patched() -> None:
    original = GraphModule.recompile
    with pytest.raises(ValueError, match="inside"), compiled_when_called():
        raise ValueError("inside")
    assert GraphModule.recompile is original
