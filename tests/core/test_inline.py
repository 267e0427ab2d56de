"""The inliner: one node becomes the operators of a function, in normal form, with constants computed and shared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.fx import Node

from hycompile.capture import capture
from hycompile.errors import PassError
from hycompile.inline import Inliner
from hycompile.normal_form import normalise
from hycompile.parity import compare, execute
from hycompile.program import Program, source_line
from hycompile.rewrite import Refused
from hycompile.schema import is_call


class Twice(nn.Module):
    """Two calls of one operator with one result, and one with two."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        values, places = torch.topk(x.tanh().tanh(), 3)
        return values, places


def program(dynamic: bool = False) -> Program:
    shapes = ({0: Dim("rows", min=1, max=9)},) if dynamic else None
    return capture(Twice().eval(), (torch.randn(2, 3),), dynamic_shapes=shapes)


def nodes(given: Program, operator: str) -> list[Node]:
    return [node for node in given.methods["forward"].graph.graph.nodes if is_call(node, operator)]


def inlined(given: Program, operator: str, function: Callable[..., Any], **options: Any) -> Program:
    result, inliner = given.copy(), Inliner("made")
    module = result.methods["forward"].graph
    for node in nodes(result, operator):
        inliner.inline(module, node, function, **options)
    module.graph.lint()
    module.recompile()
    return result


def tanh(self: Tensor, scale: float = 2.0) -> Tensor:
    """With a constant of the shape, a cast and an expanded constant."""
    ones = torch.arange(3).to(self.dtype).clamp(1, 1)
    halves = (torch.eye(1, dtype=self.dtype) / 2).expand(*self.shape)
    return (1 - 2 / ((scale * self).exp() + 1)) * ones * halves * 2


def topk(self: Tensor, k: int, dim: int, largest: bool, sorted: bool) -> tuple[Tensor, Tensor]:
    values, places = torch.sort(self, dim, descending=largest)
    return values[..., :k], places[..., :k]


def test_it_computes_the_same() -> None:
    before = program()
    for operator, function in (("aten.tanh", tanh), ("aten.topk", topk)):
        after = inlined(before, operator, function)
        assert nodes(after, operator) == []
        assert compare(execute(after.methods["forward"]), execute(before.methods["forward"]))[0] < 1e-6


def test_what_it_makes_is_in_normal_form_with_values_and_lines_of_source() -> None:
    after = inlined(program(), "aten.tanh", tanh)
    module = after.methods["forward"].graph
    text = after.text()
    assert normalise(module) == 0
    assert after.text() == text
    for node in module.graph.nodes:
        if node.op == "call_function":
            assert "val" in node.meta
            assert source_line(node).startswith("test_inline.py:")


def test_constants_are_computed_once_and_expanded_ones_stay_small() -> None:
    after = inlined(program(), "aten.tanh", tanh)
    constants = [tuple(tensor.shape) for name, tensor in after.tensors().items() if name.startswith("made")]
    assert sorted(constants) == [(1, 1), (3,)]
    assert len(nodes(after, "aten.expand")) == 2
    assert nodes(after, "aten.arange") == nodes(after, "aten.eye") == []


def test_unused_results_leave_nothing_behind() -> None:
    before = program()
    graph = before.methods["forward"].graph.graph
    values, places = before.methods["forward"].output_nodes()
    graph.output_node().args = ((values, values),)
    graph.erase_node(places)
    after = inlined(before, "aten.topk", lambda **given: (topk(**given)[0], given["self"].exp().long()[..., :3]))
    assert nodes(after, "aten.exp") == []


def test_options_reach_the_function() -> None:
    before = program()
    after = inlined(before, "aten.tanh", tanh, scale=1.0)
    assert compare(execute(after.methods["forward"]), execute(before.methods["forward"]))[0] > 0.1


def test_equal_calls_are_traced_once() -> None:
    calls: list[str] = []

    def counted(self: Tensor) -> Tensor:
        calls.append("tanh")
        return tanh(self)

    inlined(program(), "aten.tanh", counted)
    assert calls == ["tanh"]


def test_dynamic_sizes_stay_dynamic() -> None:
    before = program(dynamic=True)
    after = inlined(before, "aten.tanh", tanh)
    five = (torch.randn(5, 3),)
    assert compare(execute(after.methods["forward"], five), execute(before.methods["forward"], five))[0] < 1e-6


def test_a_function_that_asks_for_a_dynamic_size_is_refused() -> None:
    with pytest.raises(Refused, match="needs a fixed size where a size is dynamic"):
        inlined(program(dynamic=True), "aten.tanh", lambda self: tanh(self) if self.shape[0] > 4 else -tanh(self))


@pytest.mark.parametrize("function", [lambda self: self[:1], lambda self: self.long(), lambda self: (self, self)])
def test_other_results_are_an_error(function: Callable[..., Any]) -> None:
    with pytest.raises(PassError, match=r"node tanh: float32\[2, 3\] replaced by"):
        inlined(program(), "aten.tanh", function)
