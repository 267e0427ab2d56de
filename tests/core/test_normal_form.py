"""The normal form: what is gone, what stays whole, and that doing it twice changes nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hycompile.attributes import tensor_at
from hycompile.normal_form import normalise
from hycompile.parity import execute, relative_error
from hycompile.schema import bind, operator_name
from hycompile.text import canonical_text, graph_text
from tests.support import captured, count


class Everything(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.layer = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.LayerNorm(8)
        self.qkv, self.drop = nn.Linear(8, 24), nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x)).relu_().flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.layer(x)).chunk(3, -1)
        x = x + F.scaled_dot_product_attention(q, k, v)
        x += 1.0
        return self.drop(x).contiguous().clone().view(x.shape[0], -1)


def test_operators() -> None:
    model = Everything()
    program = captured(model, torch.randn(2, 3, 6, 6))
    method = program.methods["forward"]
    called = {operator_name(node) for node in method.graph.graph.nodes if node.op == "call_function"}
    gone = ("clone", "view", "dropout", "relu_", "add_", "contiguous", "native_batch_norm")
    assert not [name for name in called for part in gone if part in name]
    for whole in ("conv2d", "batch_norm", "layer_norm", "linear", "scaled_dot_product_attention"):
        assert count(program, f"aten.{whole}") == 1, whole
    assert all("val" in node.meta for node in method.graph.graph.nodes if node.op != "output")
    assert relative_error(execute(method).outputs, [model(*method.args)]) <= 1e-6


class Joined(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.concatenate([torch.concat([x, 2 * x], 1), torch.cat([x, x], 1)], 1)


def test_concatenations_have_one_name() -> None:
    program = captured(Joined(), torch.randn(2, 3))
    assert count(program, "aten.cat") == 3
    assert count(program, "aten.concatenate") == count(program, "aten.concat") == 0


def test_twice_is_once() -> None:
    graph = captured(Everything(), torch.randn(2, 3, 6, 6)).methods["forward"].graph
    before = graph_text(graph)
    assert normalise(graph) == 0
    assert graph_text(graph) == before


@pytest.mark.parametrize("options", [{}, {"affine": False}, {"track_running_stats": False}])
def test_batch_norm_has_one_output(options: dict[str, bool]) -> None:
    norm = nn.BatchNorm2d(3, **options)
    program = captured(norm, torch.randn(2, 3, 4, 4))
    (node,) = (n for n in program.methods["forward"].graph.graph.nodes if n.op == "call_function")
    arguments = bind(node)
    assert operator_name(node) == "aten.batch_norm"
    assert arguments["training"] == (norm.running_mean is None)
    assert (arguments["running_mean"] is None) == (norm.running_mean is None)
    assert (arguments["weight"] is None) == (not norm.affine)
    (output,) = execute(program.methods["forward"]).outputs
    assert relative_error([output], [norm(*program.methods["forward"].args)]) <= 1e-6


def test_one_node_a_name() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.weight + self.weight

    graph = captured(Twice(), torch.ones(2)).methods["forward"].graph
    (first,) = graph.graph.find_nodes(op="get_attr")
    with graph.graph.inserting_before(first):
        second = graph.graph.get_attr("weight")
    list(first.users)[-1].replace_input_with(first, second)
    assert normalise(graph) == 1
    (only,) = graph.graph.find_nodes(op="get_attr")
    assert len(only.users) == 2
    assert not tensor_at(graph, "weight").requires_grad


def test_canonical_text_numbers_values_and_sizes() -> None:
    class Model(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.relu() + 1

    n = torch.export.Dim("n", min=2, max=4)
    graph = captured(Model(), torch.ones(3, 2), dynamic_shapes=({0: n},)).methods["forward"].graph
    assert canonical_text(graph).splitlines() == [
        "input %0 : f32[s0, 2]",
        "%1 = aten.relu(%0) : f32[s0, 2]",
        "%2 = aten.add.Tensor(%1, other=1) : f32[s0, 2]",
        "return [%2]",
    ]
