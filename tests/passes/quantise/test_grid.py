"""Scales and zero points: every range has its zero on the grid."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hycompile.passes.quantise.grid import Grid

GRIDS = st.builds(Grid, st.integers(2, 8), st.booleans())
ENDS = st.floats(-1e6, 1e6, width=32)


@given(GRIDS, ENDS, ENDS)
def test_zero_point_never_leaves_the_grid_and_zero_is_exact(grid: Grid, one: float, other: float) -> None:
    low, high = torch.tensor([min(one, other)]), torch.tensor([max(one, other)])
    scale, zero_point = grid.parameters(low, high)
    # Unclamped: what a range that does not hold 0 would push off the grid.
    exact = (grid.low - low.double().clamp(max=0) / scale.double()).round()
    assert grid.symmetric or grid.low <= exact.item() <= grid.high
    assert grid.low <= zero_point.item() <= grid.high
    assert scale.item() > 0
    assert grid.round(torch.zeros(1), scale, zero_point).item() == 0


@pytest.mark.parametrize("ends", [(3.0, 5.0), (-5.0, -3.0)], ids=["positive", "negative"])
def test_one_sided_range_is_not_shifted(ends: tuple[float, float]) -> None:
    """What Q-HyViT calls zero-point overflow: the range [3, 5] alone has its zero point at -510."""
    grid, values = Grid(8, symmetric=False), torch.linspace(*ends, 50)
    scale, zero_point = grid.parameters(torch.tensor(ends[0]), torch.tensor(ends[1]))
    assert (grid.round(values, scale, zero_point) - values).abs().max() <= scale / 2 + 1e-6


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", [2, 4, 6, 8])
def test_values_within_the_range_move_by_half_a_step_at_most(bits: int, symmetric: bool) -> None:
    grid, values = Grid(bits, symmetric), torch.linspace(-1.0, 2.0, 301)
    scale, zero_point = grid.parameters(values.amin(), values.amax())
    # The zero point is rounded, so that one end may lie half a step outside.
    assert (grid.round(values, scale, zero_point) - values).abs().max() <= scale * (
        1.0 if not symmetric else 0.5
    ) + 1e-6
    assert len(grid.round(values, scale, zero_point).unique()) <= 2**bits


def test_range_of_nothing_but_zero_has_a_scale() -> None:
    scale, zero_point = Grid(8, symmetric=False).parameters(torch.zeros(1), torch.zeros(1))
    assert scale.item() > 0
    assert Grid(8, symmetric=False).round(torch.zeros(3), scale, zero_point).tolist() == [0, 0, 0]
