"""State as inputs and outputs: names, order, values over steps, dynamic shapes, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from hycompile.attributes import put_tensor, tensor_at
from hycompile.capture import capture
from hycompile.errors import Unsupported
from hycompile.fake import infer_all
from hycompile.parity import execute, relative_error
from hycompile.pure import pure


class Counter(nn.Module):
    """Two state buffers; one is returned before it is written."""

    def __init__(self) -> None:
        super().__init__()
        self.total = nn.Buffer(torch.zeros(4))
        self.steps = nn.Buffer(torch.zeros(1, dtype=torch.int64))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        old = self.total.clone()
        self.total.mul_(0.5).add_(x.sum(0))
        self.steps.add_(1)
        return x + old, old


def test_state_goes_in_and_comes_out() -> None:
    method = capture(Counter().eval(), (torch.ones(2, 4),)).methods["forward"]
    found = pure(method)
    assert found.state == method.mutated()
    assert sorted(found.state) == ["steps", "total"]
    module = found.exported.module()
    state: dict[str, Tensor] = {"total": torch.zeros(4), "steps": torch.zeros(1, dtype=torch.int64)}
    for step in range(3):
        x = torch.full((2, 4), float(step))
        expected = execute(method, (x,), state=state)
        returned = module(x, *(state[name] for name in found.state))
        outputs, after = returned[: len(found.outputs)], returned[len(found.outputs) :]
        assert relative_error(outputs, expected.outputs) == 0.0
        state = dict(zip(found.state, after, strict=True))
        assert all(torch.equal(state[name], expected.state[name]) for name in state)
    assert state["steps"].item() == 3


def test_the_method_itself_stays_as_it_is() -> None:
    method = capture(Counter().eval(), (torch.ones(2, 4),)).methods["forward"]
    before = method.graph.code
    pure(method)
    assert method.graph.code == before


def test_nothing_changes_without_state() -> None:
    method = capture(nn.Linear(4, 4).eval(), (torch.ones(2, 4),)).methods["forward"]
    found = pure(method)
    assert found.state == ()
    assert found.exported.graph_signature.buffers_to_mutate == {}


def test_dynamic_shapes_are_kept() -> None:
    shapes = ({0: Dim("rows", min=1, max=64)},)
    method = capture(Counter().eval(), (torch.ones(2, 4),), dynamic_shapes=shapes).methods["forward"]
    module = pure(method).exported.module()
    state = {"total": torch.zeros(4), "steps": torch.zeros(1, dtype=torch.int64)}
    outputs = module(torch.ones(9, 4), *(state[name] for name in method.mutated()))
    assert tuple(outputs[0].shape) == (9, 4)


def test_a_constant_that_views_state_is_refused() -> None:
    method = capture(Counter().eval(), (torch.ones(2, 4),)).methods["forward"]
    graph = method.graph.graph
    put_tensor(method.graph, "window", tensor_at(method.graph, "total")[:2])
    output = graph.output_node()
    with graph.inserting_before(output):
        window = graph.get_attr("window")
        shorter = graph.call_function(torch.ops.aten.sum.default, (window,))
        shifted = graph.call_function(torch.ops.aten.add.Tensor, (method.output_nodes()[0], shorter))
    output.args = ((shifted, method.output_nodes()[1]),)
    infer_all(method.graph)
    with pytest.raises(Unsupported, match="state 'total': constant 'window' is a view of it"):
        pure(method)
