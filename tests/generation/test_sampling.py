"""Draws: as likely as the logits say, from no more tokens than asked for, the same for the same seed."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from hycompile.generation.sampling import Sampler, Sampling

LOGITS = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()[[2, 0, 3, 1]]
"""Tokens from the likeliest: 1, 3, 0, 2."""


def drawn(count: int = 4000, **options: float) -> dict[int, float]:
    sampler = Sampler(Sampling(**{"temperature": 1.0, **options}))  # pyright: ignore[reportArgumentType]
    found = Counter(sampler.choose(LOGITS) for _ in range(count))
    return {token: found[token] / count for token in sorted(found)}


def test_greedy_takes_the_first_of_the_likeliest() -> None:
    assert Sampler(Sampling()).choose(torch.tensor([1.0, 3.0, 3.0])) == 1


def test_draws_follow_the_logits() -> None:
    assert drawn() == pytest.approx({0: 0.15, 1: 0.5, 2: 0.05, 3: 0.3}, abs=0.03)


def test_temperature() -> None:
    squares = {0: 0.15**2, 1: 0.5**2, 2: 0.05**2, 3: 0.3**2}
    whole = sum(squares.values())
    assert drawn(temperature=0.5) == pytest.approx({token: p / whole for token, p in squares.items()}, abs=0.03)
    assert drawn(100, temperature=1e-300) == {1: 1.0}


def test_top_k() -> None:
    assert drawn(top_k=2) == pytest.approx({1: 0.625, 3: 0.375}, abs=0.03)
    assert drawn(100, top_k=1) == {1: 1.0}
    assert set(drawn(top_k=9)) == {0, 1, 2, 3}


def test_top_p_keeps_the_token_that_reaches_it() -> None:
    assert drawn(top_p=0.79) == pytest.approx({1: 0.625, 3: 0.375}, abs=0.03)
    assert set(drawn(top_p=0.81)) == {0, 1, 3}
    assert drawn(100, top_p=0.01) == {1: 1.0}


def test_top_p_counts_within_top_k() -> None:
    assert set(drawn(top_k=2, top_p=0.6)) == {1}


def test_seeds() -> None:
    def draw(seed: int) -> list[int]:
        sampler = Sampler(Sampling(temperature=1.0, seed=seed))
        return [sampler.choose(LOGITS) for _ in range(20)]

    assert draw(1) == draw(1) != draw(2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperature": -1.0}, "temperature -1.0"),
        ({"temperature": float("nan")}, "temperature nan"),
        ({"temperature": float("inf")}, "temperature inf"),
        ({"top_k": 0}, "top_k 0"),
        ({"top_p": 0.0}, "top_p 0.0"),
        ({"top_p": 1.1}, "top_p 1.1"),
    ],
)
def test_values_out_of_range(options: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Sampling(**options)  # pyright: ignore[reportArgumentType]
