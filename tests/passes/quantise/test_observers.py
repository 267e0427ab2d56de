"""What each observer chooses."""

from __future__ import annotations

import pytest
import torch

from hycompile.passes.quantise.grid import Grid
from hycompile.passes.quantise.observers import OBSERVERS


def _error(name: str, rows: torch.Tensor, bits: int) -> float:
    grid = Grid(bits, symmetric=False)
    observer = OBSERVERS[name](grid)
    for part in rows.chunk(4, 1):
        observer.see(part)
    scale, zero_point = (value[:, None] for value in grid.parameters(*observer.ranges()))
    return float((grid.round(rows, scale, zero_point) - rows).square().mean())


def test_min_max_keeps_everything_it_saw() -> None:
    observer = OBSERVERS["minmax"](Grid(8, symmetric=False))
    observer.see(torch.tensor([[1.0, -2.0], [0.0, 0.5]]))
    observer.see(torch.tensor([[7.0, 0.0], [0.25, 0.5]]))
    low, high = observer.ranges()
    assert (low.tolist(), high.tolist()) == ([-2.0, 0.0], [7.0, 0.5])


def test_percentile_leaves_an_outlier_out() -> None:
    rows = torch.rand(1, 40000)
    rows[0, 123] = 1000.0
    observer = OBSERVERS["percentile"](Grid(8, symmetric=False))
    observer.see(rows)
    assert observer.ranges()[1].item() < 1.01


def test_a_sample_stays_small_however_much_is_seen() -> None:
    observer = OBSERVERS["percentile"](Grid(8, symmetric=False))
    for value in range(20):
        observer.see(torch.full((1, 100_000), float(value)))
    assert sum(sample.shape[1] for sample in observer._samples) <= 1 << 18  # type: ignore[attr-defined]
    assert observer.ranges()[0].item() == 0.0
    assert observer.ranges()[1].item() == 19.0


@pytest.mark.parametrize(("bits", "share"), [(4, 0.8), (6, 0.95)])
def test_least_squares_beats_min_max_on_a_long_tail(bits: int, share: float) -> None:
    torch.manual_seed(0)
    rows = torch.randn(2, 4000) ** 3
    assert _error("mse", rows, bits) < share * _error("minmax", rows, bits)


def test_least_squares_keeps_an_even_range_whole() -> None:
    rows = torch.linspace(-1, 1, 1001)[None]
    observer = OBSERVERS["mse"](Grid(8, symmetric=False))
    observer.see(rows)
    low, high = observer.ranges()
    assert (low.item(), high.item()) == pytest.approx((-1.0, 1.0), abs=0.05)
