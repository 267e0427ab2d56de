"""cut: parts run one after the other are the whole, and what crosses is explicit, once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hycompile.capture import capture
from hycompile.cut import Cut, cut
from hycompile.errors import PassError
from hycompile.parity import execute, relative_error
from hycompile.program import Method, Program
from hycompile.schema import is_call
from tests.toy_sambay import toy

ROUNDING = {torch.float32: 1e-6, torch.float64: 1e-12}
LAYERS = ["space", "full", "crosses.0"]


def run_steps(program: Program, parts: Cut, steps: int = 3) -> None:
    """Steps on the whole and on the parts, each from the state the last one left, with other tokens."""
    method, state = program.methods["decode"], dict[str, Tensor]()
    for step in range(steps):
        inputs = (torch.tensor([[7 * step % 20]]), torch.tensor([step]))
        whole, again = execute(method, inputs, state=state), parts.run(inputs, state)
        tolerance = ROUNDING[whole.outputs[0].dtype]
        assert relative_error(again.outputs, whole.outputs) <= tolerance
        assert again.state.keys() == whole.state.keys()
        for name, tensor in whole.state.items():
            assert relative_error([again.state[name]], [tensor]) <= tolerance
        state = whole.state


@pytest.mark.parametrize("dtype", ROUNDING)
def test_parts_are_the_whole(dtype: torch.dtype) -> None:
    program = toy().to(dtype)
    run_steps(program, cut(program.methods["decode"], LAYERS))


def test_memory_and_cache_cross_once_for_all_readers() -> None:
    method = toy().methods["decode"]
    parts = cut(method, LAYERS)
    memory = next(node.name for node in method.graph.graph.nodes if is_call(node, "aten.add.Tensor")
                  and node.meta["val"].shape[-1] == 12)  # fmt: skip
    first, second, third, fourth = parts.parts
    assert first.gives.count(memory) == 1
    assert memory not in second.takes
    assert third.takes.count(memory) == 1
    assert fourth.takes.count(memory) == 1
    assert parts.crossing()[memory] == 2
    caches = [name for name in second.gives if name in third.takes and name in fourth.takes]
    assert len([name for name in caches if "cache_write" in name]) == 2
    assert [part.method.mutated() for part in parts.parts] == [("space.state",), ("full.keys", "full.values"), (), ()]


def test_parts_export_on_their_own() -> None:
    for part in cut(toy().methods["decode"], LAYERS).parts:
        assert len(part.method.export().graph_signature.user_outputs) == len(part.gives)


class _Buffer(nn.Module):
    def __init__(self, late: bool) -> None:
        super().__init__()
        self.late, self.first, self.second = late, nn.Linear(3, 3), nn.Linear(3, 3)
        self.memory: Tensor
        self.register_buffer("memory", torch.ones(1, 3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        old = self.memory.clone()
        if self.late:
            y = self.second(self.first(x) + old)
            self.memory.copy_(y)
        else:
            y = self.first(x)
            self.memory.copy_(y)
            y = self.second(y) + old
        return y, x


def _method(late: bool) -> Method:
    return capture(_Buffer(late).eval(), (torch.randn(1, 3),)).methods["forward"]


def test_old_value_of_a_buffer_crosses() -> None:
    method = _method(late=False)
    parts = cut(method, ["first"])
    inputs = (torch.randn(1, 3),)
    whole, again = execute(method, inputs), parts.run(inputs)
    assert relative_error([*again.outputs, again.state["memory"]], [*whole.outputs, whole.state["memory"]]) <= 1e-6
    assert parts.parts[0].method.mutated() == ("memory",)
    assert len(parts.parts[1].takes) == 2


@pytest.mark.parametrize(
    ("late", "at", "reason"),
    [
        (True, ["add"], "part 0 reads it and part 1 makes what is written to it; a buffer lives in one part"),
        (True, ["third"], "no node or module of that name"),
        (True, ["second", "first"], "the places are not in the order of the graph"),
        (True, ["first", "first"], "the places are not in the order of the graph"),
    ],
)
def test_refusals(late: bool, at: list[str], reason: str) -> None:
    with pytest.raises(PassError, match=reason):
        cut(_method(late), at)


def test_dynamic_sizes_are_refused() -> None:
    shapes = ({0: torch.export.Dim("n", min=2, max=8)},)
    program = capture(nn.Linear(3, 3).eval(), (torch.randn(4, 3),), dynamic_shapes=shapes)
    with pytest.raises(PassError, match="depend on the input"):
        cut(program.methods["forward"], ["linear"])
