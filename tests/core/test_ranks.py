"""Tensors of many dimensions computed through tensors of few."""

from __future__ import annotations

import pytest
import torch

import hycompile as hy
from hycompile.parity import execute, relative_error
from hycompile.permutation import merged_permutation, permutation_steps
from hycompile.ranks import rank, reduce_ranks
from tests.high_ranks import FORMS, Applied


@pytest.mark.parametrize("limit", [5, 6])
@pytest.mark.parametrize("name", FORMS)
def test_no_rank_above_the_limit_is_left(name: str, limit: int) -> None:
    torch.manual_seed(0)
    program = hy.capture(Applied(FORMS[name]).eval(), (torch.randn(4, 12, 12, 5),))
    method = program.methods["forward"]
    small = program.copy().methods["forward"]
    before = max(rank(node) for node in method.graph.graph.nodes)
    assert bool(reduce_ranks(small.graph, limit)) == (before > limit)
    assert max(rank(node) for node in small.graph.graph.nodes) <= limit
    assert relative_error(execute(small).outputs, execute(method).outputs) < 1e-6


def test_what_fits_is_left_alone() -> None:
    program = hy.capture(Applied(FORMS["windows"]).eval(), (torch.randn(4, 12, 12, 5),))
    text = program.digest
    assert reduce_ranks(program.methods["forward"].graph, 6) == 0
    assert program.digest == text


@pytest.mark.parametrize("limit", [4, 5, 6])
@pytest.mark.parametrize("order", [(0, 2, 4, 1, 3, 5), (5, 4, 3, 2, 1, 0), (3, 0, 4, 2, 1, 5), (1, 2, 3, 4, 5, 0)])
def test_permutation_by_merging_and_in_steps(order: tuple[int, ...], limit: int) -> None:
    x = torch.arange(2 * 3 * 2 * 4 * 1 * 5).reshape(2, 3, 2, 4, 1, 5)
    expected = x.permute(order).reshape(-1)
    sizes, moves = merged_permutation(tuple(x.shape), order)
    assert torch.equal(x.reshape(sizes).permute(moves).reshape(-1), expected)
    moved = x
    for view, step in permutation_steps(sizes, moves, limit):
        assert len(view) <= limit
        moved = moved.reshape(view).permute(step)
    assert torch.equal(moved.reshape(-1), expected)


def test_a_permutation_that_fits_is_one_step() -> None:
    assert permutation_steps((4, 6, 2, 6, 2, 5), [0, 2, 4, 1, 3, 5], 6) == [((4, 6, 2, 6, 2, 5), [0, 2, 4, 1, 3, 5])]
    assert permutation_steps((4, 6), [0, 1], 4) == []


def test_merging_drops_ones_and_joins_neighbours() -> None:
    assert merged_permutation((3, 1, 4, 5), (2, 3, 0, 1)) == ((3, 20), [1, 0])
    assert merged_permutation((4, 14, 2, 14, 2, 96), (0, 2, 4, 1, 3, 5))[0] == (4, 14, 2, 14, 2, 96)
