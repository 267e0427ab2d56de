"""The whole pass on the blocks it is for, its option, dynamic sizes, and what it promises."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from hycompile.passes.merge_convolutions import MergeConvolutions, mergeable
from hycompile.pipeline import Pipeline
from hycompile.program import Program
from hycompile.reports import PipelineReport
from tests.passes.branches import FmVit, Function, MobileOne, PoolingMixer, RepGhost, RepMixer, RepVit, Sum
from tests.support import captured, count

BRANCHES = ("aten.conv2d", "aten.add.Tensor", "aten.sub.Tensor", "aten.batch_norm", "aten.avg_pool2d")


def _run(program: Program, pipeline: str = "normalise,reparameterise") -> tuple[Program, PipelineReport]:
    rewritten, report = Pipeline.parse(pipeline)(program)
    assert report.error_fp32 is not None
    assert report.error_fp64 is not None
    assert report.error_fp32 <= 1e-5
    assert report.error_fp64 <= 1e-12
    return rewritten, report


@pytest.mark.parametrize(
    "make",
    [
        lambda: MobileOne(4, 4, 3, 1, 4),
        lambda: MobileOne(4, 6, 3, 2, 1),
        lambda: MobileOne(4, 6, 1, 1, 1),
        lambda: RepVit(4),
        lambda: RepMixer(4),
        lambda: RepGhost(4),
        lambda: FmVit(8),
        lambda: PoolingMixer(count_include_pad=True),
    ],
    ids=["MobileOne", "MobileOne-strided", "MobileOne-pointwise", "RepVit", "RepMixer", "RepGhost", "FmVit", "pooling"],
)
def test_a_block_is_one_convolution(make: Callable[[], nn.Module]) -> None:
    model = make()
    channels = 8 if isinstance(model, FmVit) else 4
    rewritten, report = _run(captured(model, torch.randn(2, channels, 6, 6)))
    assert [count(rewritten, name) for name in BRANCHES] == [1, 0, 0, 0, 0]
    assert [refusal for rule in report.passes[-1].rules for refusal in rule.refusals] == []


def test_pooling_without_its_padding_stays_and_is_named() -> None:
    rewritten, report = _run(captured(PoolingMixer(count_include_pad=False), torch.randn(2, 4, 6, 6)))
    assert [count(rewritten, name) for name in BRANCHES] == [0, 1, 1, 0, 1]
    (refusal,) = [refusal for rule in report.passes[-1].rules for refusal in rule.refusals]
    assert refusal.reason.startswith("avg_pool2d averages over fewer values at the border")


def test_depthwise_convolution_of_a_merged_mixer_takes_its_neighbours_in() -> None:
    """What the mixer became is a convolution like any other: a channel scale behind it is the next rule's."""
    scale = nn.Conv2d(4, 4, 1, groups=4, bias=False)
    model = Function(lambda m, x: x + m.scale(m.pool(x) - x), pool=nn.AvgPool2d(3, 1, 1), scale=scale)
    rewritten, _ = _run(captured(model, torch.randn(2, 4, 6, 6)))
    assert [count(rewritten, name) for name in BRANCHES] == [1, 0, 0, 0, 0]


def test_growth_is_an_option() -> None:
    """Groups of 6 and 4 share 2 groups only: FLOPs rise from 5 to 6 parts, so that the default refuses."""
    model = Sum(nn.Conv2d(12, 12, 3, padding=1, groups=6), nn.Conv2d(12, 12, 3, padding=1, groups=4))
    program = captured(model, torch.randn(1, 12, 5, 5))
    unchanged, report = _run(program, "merge-convolutions")
    assert count(unchanged, "aten.conv2d") == 2
    assert [refusal.reason for rule in report.passes[-1].rules for refusal in rule.refusals] == [
        "one convolution for conv2d and conv2d_1 takes 648 multiply-accumulates, apart they take 540"
    ]
    merged, report = _run(program, "merge-convolutions{growth=1.2}")
    assert count(merged, "aten.conv2d") == 1
    assert report.pipeline == "merge-convolutions{growth=1.2}"


def test_sizes_that_vary() -> None:
    model = nn.Sequential(MobileOne(4, 8, 3, 2, 4), nn.Conv2d(8, 8, 3, 2, 1), nn.Conv2d(8, 4, 1), RepVit(4))
    sizes = ({2: torch.export.Dim("height", min=8, max=32), 3: torch.export.Dim("width", min=8, max=32)},)
    rewritten, report = _run(captured(model, torch.randn(2, 4, 12, 9), dynamic_shapes=sizes))
    assert [count(rewritten, name) for name in BRANCHES] == [3, 0, 0, 0, 0]
    assert [refusal for rule in report.passes[-1].rules for refusal in rule.refusals] == []


def test_weights_used_elsewhere_stay() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.a(x) + self.b(x), self.a(x.relu())

    program = captured(Shared(), torch.randn(1, 4, 5, 5))
    rewritten, _ = _run(program)
    assert count(rewritten, "aten.conv2d") == 2
    assert {"a.weight", "a.bias"} <= rewritten.tensors().keys()
    assert "b.weight" not in rewritten.tensors()


def test_long_sum_ends_in_one_rewrite_a_branch() -> None:
    model = Sum(*(nn.Conv2d(4, 4, 1 + 2 * (n % 2), padding=n % 2, groups=4) for n in range(24)))
    rewritten, report = _run(captured(model, torch.randn(1, 4, 5, 5)))
    assert count(rewritten, "aten.conv2d") == 1
    assert {rule.rule: rule.hits for rule in report.passes[-1].rules if rule.hits}["merge_parallel_convolutions"] == 23


def test_promise_names_what_is_left() -> None:
    program = captured(Sum(nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)), torch.randn(1, 4, 5, 5))
    assert mergeable(program) == ["add"]
    assert MergeConvolutions().ensures(program) == "branches that could be one convolution left: add"
    sequence = captured(nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 1)), torch.randn(1, 4, 5, 5))
    assert mergeable(sequence) == ["conv2d_1"]
