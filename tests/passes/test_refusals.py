"""One case for every ``require`` of the batch-norm rules: the graph stays, and the message carries the values."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hycompile.passes.fold_batch_norm.into_consumers import fold_batch_norm_into_consumers as consumers
from hycompile.passes.fold_batch_norm.into_producer import fold_batch_norm_into_producer as producer
from hycompile.passes.fold_batch_norm.standing_alone import batch_norm_to_depthwise as alone
from hycompile.passes.fold_constants import FoldConstants
from hycompile.rewrite import Rule, apply
from tests.passes.models import ReluThen
from tests.support import captured, count

IMAGE = (2, 4, 6, 6)


class _Function(nn.Module):
    """A module of one batch norm, one linear operator and whatever connects them."""

    def __init__(self, forward: Callable[[_Function, Tensor], Tensor | tuple[Tensor, ...]], norm: nn.Module) -> None:
        super().__init__()
        self.norm, self.call = norm, forward
        self.conv, self.linear = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.Linear(4, 4)
        self.weight, self.bias = nn.Parameter(torch.randn(4, 4)), nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.call(self, x)


def _twice_used(m: _Function, x: Tensor) -> tuple[Tensor, ...]:
    y = m.conv(x)
    return m.norm(y), y


def _move_twice_used(m: _Function, x: Tensor) -> tuple[Tensor, ...]:
    y = m.linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    return m.norm(y), y.relu()


def _pooled(**options: object) -> Callable[[_Function, Tensor], Tensor]:
    return lambda m, x: m.conv(F.avg_pool2d(m.norm(x.relu()), 2, **options))  # type: ignore[arg-type]


def _norm2d() -> nn.Module:
    return nn.BatchNorm2d(4)


def _batch_statistics() -> nn.Module:
    return nn.BatchNorm2d(4, track_running_stats=False)


BATCH = "batch_norm_default normalises by the statistics of its batch, which only run time knows"
CASES = [
    (producer, "statistics", _batch_statistics, lambda m, x: m.norm(m.conv(x)), BATCH),
    (producer, "not_linear", _norm2d, lambda m, x: m.norm(x.relu()),
     "aten.relu is neither linear nor a move that keeps the channel axis"),
    (producer, "two_users", _norm2d, _twice_used, "conv2d has 2 users, the others need it without the batch norm"),
    (producer, "move_with_two_users", _norm2d, _move_twice_used,
     "permute_1 has 2 users, the others need it without the batch norm"),
    (producer, "other_axis", lambda: nn.BatchNorm2d(6), lambda m, x: m.norm(m.linear(x.permute(0, 2, 3, 1))),
     "the channels of linear lie on axis 3, the batch norm scales axis 1"),
    (producer, "without_batch", lambda: nn.BatchNorm1d(6), lambda m, x: m.norm(m.conv(x[0])),
     "the channels of conv2d lie on axis None, the batch norm scales axis 1"),
    (producer, "weight", _norm2d, lambda m, x: m.norm(F.conv2d(x, m.conv.weight * x.mean())),
     "the weight of conv2d is not a constant"),
    (producer, "bias", _norm2d, lambda m, x: m.norm(F.conv2d(x, m.conv.weight, m.bias * x.mean())),
     "the bias of conv2d is not a constant"),
    (consumers, "statistics", _batch_statistics, lambda m, x: m.conv(m.norm(x)), BATCH),
    (consumers, "not_linear", _norm2d, lambda m, x: m.conv(m.norm(x).relu()),
     "aten.relu uses it and is neither linear nor a move that keeps the channel axis"),
    (consumers, "returned", _norm2d, lambda m, x: (m.conv(y := m.norm(x.relu())), y),
     "output uses it and is neither linear nor a move that keeps the channel axis"),
    (consumers, "split", _norm2d, lambda m, x: m.norm(x.relu()).chunk(2, 1),
     "aten.split.Tensor uses it and is neither linear nor a move that keeps the channel axis"),
    (consumers, "as_weight", _norm2d, lambda m, x: F.conv2d(x[:1], m.norm(x)[:, :, :3, :3]),
     "aten.conv2d uses it and is neither linear nor a move that keeps the channel axis"),
    (consumers, "as_weight_itself", _norm2d, lambda m, x: F.conv2d(x.relu(), m.norm(x)),
     "aten.conv2d uses it and is neither linear nor a move that keeps the channel axis"),
    (consumers, "padded_pool", _norm2d, _pooled(padding=1), "avg_pool2d averages over zero padding (padding [1, 1])"),
    (consumers, "divisor", _norm2d, _pooled(divisor_override=3), "avg_pool2d divides by 3, not by its window"),
    (consumers, "pool_over_channels", lambda: nn.BatchNorm1d(4),
     lambda m, x: m.linear(F.avg_pool1d(m.norm(x[0, 0, :4, :4]), 2).repeat(1, 2)),
     "aten.avg_pool1d uses it and is neither linear nor a move that keeps the channel axis"),
    (consumers, "mean_over_channels", _norm2d, lambda m, x: m.norm(x.relu()).mean((1, 2)),
     "aten.mean.dim uses it and is neither linear nor a move that keeps the channel axis"),
    (consumers, "other_axis", lambda: nn.BatchNorm1d(6), lambda m, x: m.linear(m.norm(x[0].transpose(0, 2)[..., :4])),
     "linear mixes axis 2, the batch norm scales axis 1"),
    (consumers, "weight", _norm2d, lambda m, x: F.conv2d(m.norm(x.relu()), m.conv.weight * x.mean()),
     "the weight of conv2d is not a constant"),
    (consumers, "bias", _norm2d, lambda m, x: F.conv2d(m.norm(x.relu()), m.conv.weight, m.bias * x.mean()),
     "the bias of conv2d is not a constant"),
    (alone, "statistics", _batch_statistics, lambda m, x: m.norm(x), BATCH),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "case", "norm", "forward", "reason"), CASES, ids=[f"{c[0].name}-{c[1]}" for c in CASES]
)
def test_refusal(
    rule: Rule,
    case: str,
    norm: Callable[[], nn.Module],
    forward: Callable[[_Function, Tensor], Tensor],
    reason: str,
) -> None:
    program = captured(_Function(forward, norm()), torch.randn(IMAGE))
    before = program.text()
    report = apply(rule, program)
    assert report.hits == 0
    assert [refusal.reason for refusal in report.refusals] == [reason]
    assert program.text() == before


def test_refusal_names_the_line_of_model_source() -> None:
    report = apply(producer, captured(ReluThen(nn.BatchNorm2d(4)), torch.randn(IMAGE)))
    (refusal,) = report.refusals
    assert refusal.node == "batch_norm_default"
    assert refusal.where.startswith("models.py:")
    assert refusal.where.endswith(" in forward")


def test_nothing_uses_it() -> None:
    program = captured(ReluThen(nn.BatchNorm2d(4)), torch.randn(IMAGE))
    output = program.methods["forward"].graph.graph.output_node()
    norm = output.all_input_nodes[0]
    output.replace_input_with(norm, norm.all_input_nodes[0])
    assert [refusal.reason for refusal in apply(consumers, program).refusals] == ["nothing uses it"]


def test_padded_conv_of_dynamic_size() -> None:
    model = ReluThen(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1))
    sizes = {2: torch.export.Dim("height", min=4, max=32)}
    program = captured(model, torch.randn(IMAGE), dynamic_shapes=((sizes),))
    report = apply(consumers, program)
    assert report.hits == 0
    (refusal,) = report.refusals
    assert refusal.reason.startswith("conv2d is padded and its input size (s")
    assert refusal.reason.endswith(", 6) is dynamic: the bias map needs a fixed one")


def test_constant_that_grows_too_much() -> None:
    class Expanded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.scale.expand(100)

    program = captured(Expanded(), torch.randn(100))
    (report,) = FoldConstants(max_growth_bytes=395).run(program, lambda rewritten, report: None)
    assert report.hits == 0
    assert [r.reason for r in report.refusals] == ["the result takes 400 bytes, its constants 4; the limit is 395 more"]
    assert count(program, "aten.expand") == 1
    (report,) = FoldConstants(max_growth_bytes=396).run(program, lambda rewritten, report: None)
    assert (report.hits, count(program, "aten.expand")) == (1, 0)
