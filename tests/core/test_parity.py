"""Errors relative to scale, comparison of outputs and state, and what a Proof says."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from hycompile.errors import ParityError
from hycompile.parity import Proof, Result, compare, execute, relative_error
from hycompile.prove import prove
from hycompile.script import draws
from tests.support import captured

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("actual", "reference", "error"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([1.0, 2.5], [1.0, 2.0], 0.25),
        ([1e8, 3.0], [1e8, 2.0], 1e-8),
        ([0.5], [0.0], 0.5),
        ([0.0], [0.0], 0.0),
        ([], [], 0.0),
        ([NAN, 1.0], [NAN, 1.0], 0.0),
        ([INF, -INF], [INF, -INF], 0.0),
        ([INF, 1.0], [-INF, 1.0], INF),
        ([NAN], [0.0], INF),
        ([0.0], [NAN], INF),
        ([INF], [NAN], INF),
        ([INF], [1e30], INF),
        ([1.0, 2.0], [1.0], INF),
        ([[1.0]], [1.0], INF),
    ],
)
def test_relative_error(actual: Sequence[float], reference: Sequence[float], error: float) -> None:
    assert relative_error([torch.tensor(actual)], [torch.tensor(reference)]) == pytest.approx(error)


def test_relative_error_of_several() -> None:
    one, two = torch.ones(2), torch.full((2,), 2.0)
    assert relative_error([one, two], [one, one]) == 1.0
    assert relative_error([one], [one, one]) == INF
    assert relative_error([], []) == 0.0
    assert relative_error([torch.tensor([True])], [torch.tensor([False])]) == 1.0
    assert relative_error([torch.tensor([3])], [torch.tensor([4], dtype=torch.int32)]) == 0.25
    assert relative_error([one.half()], [one.double()]) == 0.0


def test_compare_names_the_worst_tensor() -> None:
    reference = Result((torch.ones(2),), {"cache": torch.ones(2)})
    assert compare(reference, reference)[0] == 0.0
    assert compare(Result((torch.ones(2),), {"cache": torch.full((2,), 3.0)}), reference) == (2.0, "state cache")
    assert compare(Result((torch.ones(2),), {}), reference) == (INF, "['state cache']")


class Doubler(nn.Module):
    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((3,), 2.0))
        self.register_buffer("seen", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        self.seen.add_(x)
        return x * self.weight


def test_execute_takes_inputs_precision_and_state() -> None:
    method = captured(Doubler(), torch.ones(3)).methods["forward"]
    assert execute(method).outputs[0].tolist() == [2.0, 2.0, 2.0]
    assert execute(method, (torch.full((3,), 5.0),)).state["seen"].tolist() == [5.0, 5.0, 5.0]
    assert execute(method, dtype=torch.float64).outputs[0].dtype == torch.float64
    assert execute(method, state={"seen": torch.full((3,), 7.0)}).state["seen"].tolist() == [8.0, 8.0, 8.0]
    assert method.graph.get_buffer("seen").tolist() == [0.0, 0.0, 0.0]


def test_value_whose_last_use_is_a_write() -> None:
    """The interpreter frees a value after its last use: the write must have read it by then."""

    class Keeps(nn.Module):
        a: Tensor
        b: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("a", torch.zeros(2))
            self.register_buffer("b", torch.zeros(2))

        def forward(self, x: Tensor) -> Tensor:
            y = x * 3
            self.a.copy_(y)
            self.b.copy_(y + self.a)
            return x

    state = execute(captured(Keeps(), torch.ones(2)).methods["forward"]).state
    assert (state["a"].tolist(), state["b"].tolist()) == ([3.0, 3.0], [6.0, 6.0])


def test_proof_sees_outputs_and_state() -> None:
    program = captured(Doubler(), torch.ones(3))
    proof = Proof(program)
    assert proof.check(program.copy(), "test") == 0.0
    changed = program.copy()
    (multiply,) = (n for n in changed.methods["forward"].graph.graph.nodes if n.name == "mul")
    multiply.args = (multiply.args[0], 2.5)
    with pytest.raises(ParityError) as caught:
        proof.check(changed, "pass p, rule r")
    assert str(caught.value) == (
        "pass p, rule r: changed what the model computes: relative error 2.50e-01 at forward, output 0 in float32, "
        "allowed 1e-04; correct the rewrite, or leave the pass out of the pipeline"
    )
    assert proof.check(changed, "lossy", budget=0.3) == pytest.approx(0.25)
    changed = program.copy()
    graph = changed.methods["forward"].graph.graph
    (write,) = (n for n in graph.nodes if n.name.startswith("copy_"))
    graph.erase_node(write)
    with pytest.raises(ParityError, match=r"relative error inf at forward, \['state seen'\] in float32"):
        proof.check(changed, "pass p, rule r")


def test_proof_catches_nan() -> None:
    program = captured(Doubler(), torch.ones(3))
    changed = program.copy()
    (multiply,) = (n for n in changed.methods["forward"].graph.graph.nodes if n.name == "mul")
    multiply.args = (multiply.args[0], NAN)
    with pytest.raises(ParityError, match="relative error inf"):
        Proof(program).check(changed, "r")


class EagerSession:
    """A runtime that is the model itself, with a fault if asked for."""

    def __init__(self, model: nn.Module, fault: float = 0.0, hides_state: bool = False) -> None:
        self.model, self.fault, self.hides_state = model, fault, hides_state

    def run(self, inputs: Sequence[Tensor], method: str = "forward") -> tuple[Tensor, ...]:
        with torch.no_grad():
            return (getattr(self.model, method)(*inputs) + self.fault,)

    def state(self) -> dict[str, Tensor] | None:
        return None if self.hides_state else dict(self.model.named_buffers())

    def profile(self, inputs: Sequence[Tensor], runs: int = 8) -> None:
        return None


def test_prove_runs_steps_and_looks_at_state() -> None:
    program = captured(Doubler(), torch.tensor([1.0, 2.0, 4.0]))
    assert prove(EagerSession(Doubler()), program) == 0.0
    assert prove(EagerSession(Doubler(), fault=4.0), program) == pytest.approx(1.0)
    forgetful = Doubler()
    forgetful.register_buffer("seen", torch.full((3,), 100.0))
    assert prove(EagerSession(forgetful), program) > 1.0
    assert prove(EagerSession(forgetful, hides_state=True), program) == 0.0
    stateless = nn.Module()
    stateless.forward = Doubler().forward
    assert prove(EagerSession(stateless), program) == INF


def test_draws_differ_and_keep_integers() -> None:
    class Gather(nn.Module):
        def forward(self, x: Tensor, index: Tensor) -> Tensor:
            return x[index]

    method = captured(Gather(), torch.arange(5.0), torch.tensor([0, 4])).methods["forward"]
    first, second, third = draws(method)
    assert all(torch.equal(draw[1], first[1]) for draw in (second, third))
    assert not torch.equal(first[0], second[0])
    assert torch.equal(second[0].sort().values, first[0])
    assert third[0].min() < 0
