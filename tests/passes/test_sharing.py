"""Folding where weights, inputs or methods are shared: nobody else's weight changes, and no copy stays behind."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hycompile.capture import Call, capture
from hycompile.parity import Proof, execute, relative_error
from hycompile.passes.fold_batch_norm.into_consumers import fold_batch_norm_into_consumers as consumers
from hycompile.passes.fold_constants import FoldConstants
from hycompile.passes.remove_unused_state import RemoveUnusedState
from hycompile.pipeline import Pipeline
from hycompile.program import Program
from hycompile.reports import PipelineReport
from hycompile.rewrite import apply
from tests.support import captured, count, sane

ROUNDING = 1e-5


def _reparameterised(program: Program) -> tuple[Program, PipelineReport]:
    return Pipeline.parse("reparameterise")(program)


class SharedWeight(nn.Module):
    """Two convolutions of one weight; only one of them sees the batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.norm(x.relu())) + self.conv(x)


def test_shared_conv_keeps_its_weight_where_no_batch_norm_was() -> None:
    program = captured(SharedWeight(), torch.randn(2, 4, 3, 3))
    proof = Proof(program)
    assert apply(consumers, program).hits == 1
    assert proof.check(program, "test", ROUNDING) <= ROUNDING
    assert {"conv.weight", "conv.bias"} <= program.tensors().keys()


def test_one_linear_consuming_the_batch_norm_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.linear = nn.BatchNorm1d(4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            y = self.norm(x.relu())
            return self.linear(y) * self.linear(y)

    program = captured(Twice(), torch.randn(3, 4))
    rewritten, report = _reparameterised(program)
    assert [r.hits for r in report.passes[0].rules if r.rule == consumers.name] == [1]
    assert count(rewritten, "aten.batch_norm") == 0
    assert rewritten.weight_bytes == 4 * (16 + 4)


def test_head_shared_by_two_levels_is_folded_once_in_memory() -> None:
    class Levels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8))

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.head(x), self.head(F.avg_pool2d(x, 2))

    program = captured(Levels(), torch.randn(1, 4, 12, 12))
    rewritten, _ = _reparameterised(program)
    assert count(rewritten, "aten.conv2d") == 2
    assert rewritten.weight_bytes == 4 * (8 * 4 * 9 + 8)


class TwoEntries(nn.Module):
    """Two methods over one convolution and one counter; only ``step`` writes the counter."""

    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8)
        self.own = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8))
        self.register_buffer("steps", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.steps.add_(1.0)
        return self.norm(self.conv(x))

    def inspect(self, x: Tensor) -> Tensor:
        return self.own(self.norm(self.conv(x)).relu()) + (self.steps * 2).reshape(1, 1, 1, 1)


def _two_entries() -> Program:
    image = torch.randn(1, 4, 6, 6)
    calls = {"step": Call((image,)), "inspect": Call((image,), function="inspect")}
    return capture(sane(TwoEntries()), methods=calls)


def test_methods_that_fold_the_same_weight_share_the_result() -> None:
    program = _two_entries()
    rewritten, report = _reparameterised(program)
    assert count(rewritten, "aten.batch_norm") == 0
    assert report.error_fp32 is not None
    assert report.error_fp32 <= ROUNDING
    assert rewritten.weight_bytes == 4 * (8 * 4 * 9 + 8 + 8 * 8 + 8 + 1)


def test_methods_do_not_mix_up_new_buffers_of_one_name() -> None:
    """Each method numbers its own new buffers: the same name must not stand for two tensors in one Program."""
    rewritten, _ = _reparameterised(_two_entries())
    by_method = [set(Program("", {"m": method}).tensors()) for method in rewritten.methods.values()]
    for name in by_method[0] & by_method[1]:
        first, second = (Program("", {"m": m}).tensors()[name] for m in rewritten.methods.values())
        assert first.data_ptr() == second.data_ptr()


def test_state_of_another_method_is_no_constant() -> None:
    program = _two_entries()
    (report,) = FoldConstants().run(program, lambda rewritten, report: None)
    assert report.hits == 0
    assert "state @steps" in program.text().partition("method inspect")[2]
    after = execute(program.methods["step"]).state
    shifted = execute(program.methods["inspect"], state=after)
    assert relative_error(shifted.outputs, [execute(program.methods["inspect"]).outputs[0] + 2]) < ROUNDING


def test_state_written_here_and_read_there_is_not_called_unused() -> None:
    class Writer(nn.Module):
        kept: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("kept", torch.zeros(2))

        def forward(self, x: Tensor) -> Tensor:
            self.kept.copy_(x)
            return x + 1

        def read(self, x: Tensor) -> Tensor:
            return x + self.kept

    calls = {"write": Call((torch.ones(2),)), "read": Call((torch.ones(2),), function="read")}
    program = capture(Writer().eval(), methods=calls)
    (report,) = RemoveUnusedState().run(program, lambda rewritten, report: None)
    assert (report.hits, report.refusals) == (0, [])
