"""Tensors of rank six and seven computed through tensors of at most five dimensions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import hycompile as hy
from hycompile.backends.coreml import Coreml
from hycompile.backends.coreml.ranks import LIMIT, rank, reduce_ranks
from hycompile.parity import execute, relative_error
from hycompile.permutation import block_swaps, merged_permutation

Form = Callable[[Tensor], Any]


def _windows(x: Tensor) -> Tensor:
    """Window partition of a batch: nothing merges, so the permute takes two steps."""
    return x.reshape(4, 6, 2, 6, 2, 5).permute(0, 2, 4, 1, 3, 5).reshape(4, 4, 36, 5)


def _mask_units(x: Tensor) -> Tensor:
    """Mask-unit attention's q, k, v, with the queries pooled by a maximum over rank six."""
    q, k, v = x.reshape(2, -1, 6, 3, 2, 10).permute(3, 0, 4, 2, 1, 5).unbind(0)
    return q.reshape(2, 2, 6, 2, -1, 10).amax(3).sum(-1) + (k * v).mean((-1, -2))[..., None]


def _arithmetic(x: Tensor) -> Tensor:
    big = x.reshape(2, 2, 6, 2, 6, 2, 5)
    bias = torch.arange(12.0).reshape(6, 1, 1, 2, 1)
    shifted = torch.relu(big * 2 + bias) - big.mean(-1, keepdim=True)
    return torch.cat([shifted[:, :, 1:], big], 2).transpose(1, 5).flatten(1, 4).sum(-1)


def _pieces(x: Tensor) -> tuple[Tensor, ...]:
    big = x.reshape(2, 2, 6, 2, 6, 2, 5)
    left, right = big.split([2, 4], 4)
    return left.select(3, 1).select(2, 0), right.reshape(4, -1), big.squeeze(0).unsqueeze(0)[..., 1, 0].amin((1, 3))


FORMS: dict[str, Form] = {"windows": _windows, "mask_units": _mask_units, "arithmetic": _arithmetic, "pieces": _pieces}


class Applied(nn.Module):
    def __init__(self, form: Form) -> None:
        super().__init__()
        self.form = form

    def forward(self, x: Tensor) -> Any:
        return self.form(x)


@pytest.mark.parametrize("name", FORMS)
def test_no_rank_above_five_is_left(name: str) -> None:
    torch.manual_seed(0)
    program = hy.capture(Applied(FORMS[name]).eval(), (torch.randn(4, 12, 12, 5),))
    method = program.methods["forward"]
    small = program.copy().methods["forward"]
    before = sum(rank(node) > LIMIT for node in method.graph.graph.nodes)
    assert before > 0
    assert reduce_ranks(small.graph) >= before
    assert max(rank(node) for node in small.graph.graph.nodes) <= LIMIT
    assert relative_error(execute(small).outputs, execute(method).outputs) < 1e-6


@pytest.mark.parametrize("name", FORMS)
def test_packages_of_high_rank_are_proved(name: str, lower_coreml: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 12, 12, 5)
    program = hy.capture(Applied(FORMS[name]).eval(), (x,))
    results = Coreml().open(lower_coreml(program)).run((x,))
    assert relative_error(results, execute(program.methods["forward"]).outputs) < 1e-5


def test_large_output_is_an_obstacle(coreml_target: Callable[..., Any]) -> None:
    program = hy.capture(Applied(lambda x: x.reshape(2, 2, 6, 2, 6, 2, 5) * 2).eval(), (torch.randn(4, 12, 12, 5),))
    obstacles = Coreml().obstacles(program, coreml_target())
    assert obstacles
    assert {obstacle.reason for obstacle in obstacles} == {
        "makes a tensor of rank above 5, which Core ML does not have"
    }
    assert all(obstacle.fatal and "test_ranks.py" in obstacle.where for obstacle in obstacles)


@pytest.mark.parametrize("order", [(0, 2, 4, 1, 3, 5), (5, 4, 3, 2, 1, 0), (3, 0, 4, 2, 1, 5), (1, 2, 3, 4, 5, 0)])
def test_permutation_by_merging_and_swapping(order: tuple[int, ...]) -> None:
    x = torch.arange(2 * 3 * 2 * 4 * 1 * 5).reshape(2, 3, 2, 4, 1, 5)
    expected = x.permute(order).reshape(-1)
    sizes, moves = merged_permutation(tuple(x.shape), order)
    assert torch.equal(x.reshape(sizes).permute(moves).reshape(-1), expected)
    swapped = x
    for view in block_swaps(tuple(x.shape), order):
        swapped = swapped.reshape(view).permute(0, 2, 1, 3)
    assert torch.equal(swapped.reshape(-1), expected)


def test_merging_drops_ones_and_joins_neighbours() -> None:
    assert merged_permutation((3, 1, 4, 5), (2, 3, 0, 1)) == ((3, 20), [1, 0])
    assert merged_permutation((4, 14, 2, 14, 2, 96), (0, 2, 4, 1, 3, 5))[0] == (4, 14, 2, 14, 2, 96)
