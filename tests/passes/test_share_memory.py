"""share-memory: one readout for all gated memory units, one buffer for caches written alike; refusals; wrong merges."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hycompile.capture import capture
from hycompile.cut import cut
from hycompile.parity import Result, compare, execute, relative_error
from hycompile.passes.share_memory import SharedMemory, ShareMemory
from hycompile.passes.share_memory.units import find_memories
from hycompile.pipeline import Pipeline
from hycompile.program import Program
from hycompile.reports import PipelineReport
from hycompile.storage import state_uses, stored_bytes
from hycompile.text import graph_text
from tests.support import count
from tests.toy_sambay import INNER, SLOTS, STATE, WIDTH, toy

ROUNDING = {torch.float32: 1e-6, torch.float64: 1e-12}
ONCE = 4 * (INNER * STATE + 2 * SLOTS * WIDTH)
CASES = {"diagonal": {}, "normalised": {"normalised": True}, "own_caches": {"own_caches": True}}
HITS = {"diagonal": (0, 4, 0, 0), "normalised": (0, 0, 4, 2), "own_caches": (4, 4, 0, 0)}


def shared(program: Program) -> tuple[Program, PipelineReport]:
    return Pipeline((ShareMemory(),))(program)


def hits(report: PipelineReport) -> tuple[int, ...]:
    return tuple(rule.hits for rule in report.passes[0].rules)


@pytest.mark.parametrize("case", CASES)
def test_toy(case: str, golden: Callable[[str, str, str], None]) -> None:
    program = toy(**CASES[case])
    rewritten, report = shared(program)
    assert hits(report)[:4] == HITS[case]
    assert report.error_fp32 is not None
    assert report.error_fp64 is not None
    assert report.error_fp32 <= ROUNDING[torch.float32]
    assert report.error_fp64 <= ROUNDING[torch.float64]
    assert stored_bytes(rewritten, state=True) == ONCE
    facts = report.passes[0].rules[-1].facts
    assert facts == {"prefill.add readers": 3, "prefill.add bytes": 4 * 4 * INNER,
                     "decode.add readers": 3, "decode.add bytes": 4 * INNER}  # fmt: skip
    decode = [graph_text(each.methods["decode"].graph) for each in (program, rewritten)]
    golden(f"share_memory/{case}", *decode)


def test_shared_once_is_shared_for_good() -> None:
    rewritten, _ = shared(toy(normalised=True))
    assert hits(shared(rewritten)[1]) == (0, 0, 0, 0, 0, 0)


def test_one_writer_and_all_readers_of_the_caches_that_were_three() -> None:
    program = toy(own_caches=True)
    assert stored_bytes(program, state=True) == ONCE + 2 * 4 * 2 * SLOTS * WIDTH
    rewritten, _ = shared(program)
    uses = {use.name: use for use in state_uses(rewritten)}
    assert len(uses) == 3
    for use in uses.values():
        assert len(use.writers) == 2
    caches = [use for use in uses.values() if use.size_bytes == 4 * SLOTS * WIDTH]
    assert [len(use.readers) for use in caches] == [6, 6]


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("case", CASES)
def test_steps_from_state_to_state(case: str, dtype: torch.dtype) -> None:
    program = toy(**CASES[case]).to(dtype)
    rewritten, _ = shared(program)
    state: dict[str, dict[str, Tensor]] = {"whole": {}, "shared": {}}
    for step, name in enumerate(["prefill", "decode", "decode"]):
        inputs = (torch.full_like(program.methods[name].flat_inputs()[0], 3 + step), torch.tensor([(0, 4, 5)[step]]))
        whole = execute(program.methods[name], inputs, state=state["whole"])
        again = execute(rewritten.methods[name], inputs, state=state["shared"])
        assert relative_error(again.outputs, whole.outputs) <= ROUNDING[dtype]
        state = {"whole": whole.state, "shared": again.state}
        for buffer, tensor in again.state.items():
            assert relative_error([tensor], [whole.state[buffer]]) <= ROUNDING[dtype]


def test_marked_memory_crosses_cuts_once() -> None:
    method = shared(toy(normalised=True))[0].methods["decode"]
    marked = [node for node in method.graph.graph.nodes if "shared_memory" in node.meta]
    assert [node.meta["shared_memory"] for node in marked] == [SharedMemory(3, 4 * INNER)]
    assert cut(method, ["space", "crosses.0"]).crossing()[marked[0].name] == 1


class Small(nn.Module):
    """A readout, two gates and outputs over ``[1, 5, 6]``; ``forward`` is given."""

    def __init__(self, forward: Callable[[Small, Tensor], object]) -> None:
        super().__init__()
        self.call = forward
        self.up, self.g1, self.g2, self.o1, self.o2 = (nn.Linear(6, 6) for _ in range(5))
        self.diagonal, self.norm = nn.Parameter(torch.rand(6) + 0.5), nn.RMSNorm(6)
        self.first: Tensor
        self.second: Tensor
        for name in ("first", "second"):
            self.register_buffer(name, torch.zeros(1, 6))
        nn.init.normal_(self.norm.weight, 1.0, 0.3)

    def forward(self, x: Tensor) -> object:
        return self.call(self, x)

    def written_norm(self, x: Tensor) -> Tensor:
        """The norm of ``norm``, in single operators."""
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * self.norm.weight


def small(forward: Callable[[Small, Tensor], object]) -> Program:
    torch.manual_seed(0)
    return capture(Small(forward).eval(), (torch.randn(1, 5, 6),))


def gates_of_one_input(m: Small, x: Tensor) -> Tensor:
    memory = m.up(x).tanh()
    return m.o1(memory * F.silu(m.g1(x))) + m.o2(memory * F.silu(m.g2(x)))


def norms_written_out(m: Small, x: Tensor) -> Tensor:
    memory, h = m.up(x).tanh(), x.sin()
    last = m.written_norm(memory[:, -1:]) * F.silu(m.g1(x[:, -1:]))
    gate = m.g2(h[:, -1:])
    return m.o1(last) + m.o2(m.written_norm(memory[:, -1:]) * (gate * gate.sigmoid()))


def product_normalised(m: Small, x: Tensor) -> Tensor:
    memory, h = m.up(x).tanh(), x.sin()
    return m.o1(m.written_norm(memory * F.silu(m.g1(x)))) + m.o2(m.norm(memory * F.silu(m.g2(h)) * m.diagonal))


@pytest.mark.parametrize(
    ("forward", "expected"),
    [
        (gates_of_one_input, (0, 0, 0, 0, 1, 0)),
        (norms_written_out, (0, 2, 0, 6, 0, 0)),
        (product_normalised, (0, 1, 1, 0, 0, 0)),
    ],
)
def test_forms_of_units(forward: Callable[[Small, Tensor], object], expected: tuple[int, ...]) -> None:
    _, report = shared(small(forward))
    assert hits(report) == expected
    assert report.passes[0].rules[-1].facts["forward.tanh readers"] == 2


def test_merged_gates_leave_other_linears_alone() -> None:
    rewritten, _ = shared(small(gates_of_one_input))
    assert count(rewritten, "aten.linear") == 4
    assert len(find_memories(rewritten.methods["forward"].graph)[0].units) == 2


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: m.o1(F.silu(m.g1(x)) * m.up(x)),
        lambda m, x: m.o1(F.silu((y := m.g1(x))[..., :3]).repeat(1, 1, 2) * y[..., 3:].repeat(1, 1, 2)),
        lambda m, x: m.o1((y := m.up(x).tanh()) * m.g1(x).sigmoid()) + m.o2(y * m.g2(x).sigmoid()),
        lambda m, x: m.o1((y := m.up(x).tanh()) * F.silu(x)) + m.o2(y * F.silu(x + 1)),
    ],
    ids=["swiglu", "merged_swiglu", "sigmoid", "gate_without_linear"],
)
def test_no_memory(forward: Callable[[Small, Tensor], object]) -> None:
    program = small(forward)
    rewritten, report = shared(program)
    assert hits(report) == (0, 0, 0, 0, 0, 0)
    assert report.passes[0].rules[-1].facts == {}
    assert rewritten.text() == program.text()


def test_diagonal_that_others_see_is_refused() -> None:
    def forward(m: Small, x: Tensor) -> tuple[Tensor, Tensor]:
        memory = m.up(x).tanh() * m.diagonal
        return m.o1(memory * F.silu(m.g1(x))) + m.o2(memory * F.silu(m.g2(x.sin()))), memory + x

    program = small(forward)
    rewritten, report = shared(program)
    assert rewritten.text() == program.text()
    assert [refusal.reason for refusal in report.passes[0].rules[1].refusals] == [
        "aten.add.Tensor uses it and is neither linear nor a move that keeps the channel axis"
    ]


def writes(first: Callable[[Tensor], Tensor], second: Callable[[Tensor], Tensor], start: float = 0.0) -> Program:
    def forward(m: Small, x: Tensor) -> Tensor:
        y = x[:, 0] + m.first - m.second
        m.first.copy_(m.first + first(x[:, 0]))
        m.second.copy_(m.second + second(x[:, 0]))
        return y

    module = Small(forward)
    module.second += start
    return capture(module.eval(), (torch.randn(1, 5, 6),))


def test_buffers_that_start_differently_are_refused() -> None:
    program = writes(torch.sin, torch.sin, start=1.0)
    rewritten, report = shared(program)
    assert rewritten.text() == program.text()
    assert [refusal.reason for refusal in report.passes[0].rules[0].refusals] == [
        "second is written like first in every method, but starts with another content"
    ]


def test_buffers_that_are_written_differently_stay_two() -> None:
    rewritten, report = shared(writes(torch.sin, torch.cos))
    assert hits(report)[0] == 0
    assert report.passes[0].rules[0].refusals == []
    assert len(rewritten.methods["forward"].mutated()) == 2


def test_buffers_that_follow_each_other_are_one() -> None:
    """Each is written with itself plus the same: equal by induction over the calls, not by one call's text."""
    rewritten, report = shared(writes(torch.sin, torch.sin))
    assert hits(report)[0] == 1
    assert rewritten.methods["forward"].mutated() == ("first",)


def test_a_lost_buffer_is_no_merged_one() -> None:
    kept, zeros = torch.ones(3), torch.zeros(3)
    reference = Result((), {"a": kept, "b": kept.clone(), "zero": zeros, "zeros": zeros.clone()})
    assert compare(Result((), {"a": kept, "zero": zeros, "zeros": zeros}), reference)[0] == 0.0
    assert compare(Result((), {"a": kept, "b": kept, "zero": zeros}), reference)[0] == float("inf")
    other = Result((), {"a": kept, "b": kept + 1e-6})
    assert compare(Result((), {"a": kept}), other)[0] == float("inf")


def test_one_output_of_several_is_a_memory_of_its_own() -> None:
    def heads(m: Small, x: Tensor) -> Tensor:
        best, places = m.up(x).topk(6)
        gates = F.silu(m.g1(x)), F.silu(m.g2(x))
        return m.o1(best * gates[0]) + m.o2(best * gates[1]) + places.sum()

    program = small(heads)
    [memory] = find_memories(program.methods["forward"].graph)
    assert memory.producer.meta["val"].shape == (1, 5, 6)
    assert shared(program)[1].passes[0].rules[-1].facts["forward.getitem readers"] == 2
