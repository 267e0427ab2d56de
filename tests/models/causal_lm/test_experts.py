"""Ranks by comparison choose what ``topk`` chooses, and break ties once."""

from __future__ import annotations

import pytest
import torch

from hycompile.models.causal_lm.experts import largest


@pytest.mark.parametrize("count", [1, 3, 8])
def test_the_largest_are_those_of_topk(count: int) -> None:
    scores = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    expected = torch.zeros_like(scores, dtype=torch.bool).scatter(1, scores.topk(count).indices, value=True)
    assert torch.equal(largest(scores, count), expected)


def test_of_equal_scores_the_first_are_taken() -> None:
    assert largest(torch.tensor([2.0, 1.0, 2.0, 1.0, 1.0]), 3).tolist() == [True, True, True, False, False]
