"""Moves and projections keep what is computed, whatever the geometry: exactly, or to 1e-12 of the scale in float64."""

from __future__ import annotations

import math

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hycompile.parity import execute, relative_error
from hycompile.passes.fuse_conv_attention.moves import shorten_moves
from hycompile.passes.fuse_conv_attention.parts import take_parts
from hycompile.passes.fuse_conv_attention.split_projection import split_projection
from hycompile.program import Program
from hycompile.rewrite import apply
from tests.support import captured, count

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
few = settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
MOVES = ("aten.reshape", "aten.permute", "aten.transpose.int")


class Moves(nn.Module):
    """Reshapes and permutes in a row."""

    def __init__(self, steps: list[list[int] | tuple[int, ...]]) -> None:
        super().__init__()
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        x = x.relu()
        for step in self.steps:
            x = x.permute(step) if isinstance(step, tuple) else x.reshape(step)
        return x.relu()


@st.composite
def steps(draw: st.DrawFn) -> list[list[int] | tuple[int, ...]]:
    """Permutes of an image that come apart and together again along whole axes."""
    shape, found = [1, 4, 2, 6], list[list[int] | tuple[int, ...]]()
    for _ in range(draw(st.integers(2, 4))):
        if draw(st.booleans()):
            order = tuple(draw(st.permutations(range(len(shape)))))
            found.append(order)
            shape = [shape[axis] for axis in order]
        elif len(shape) > 2:
            at = draw(st.integers(0, len(shape) - 2))
            shape = [*shape[:at], shape[at] * shape[at + 1], *shape[at + 2 :]]
            found.append(list(shape))
        else:
            shape = [size for axis in shape for size in ((2, axis // 2) if axis % 2 == 0 else (axis,))]
            found.append(list(shape))
    return found


def _error(before: Program, after: Program) -> float:
    return relative_error(execute(after.methods["forward"]).outputs, execute(before.methods["forward"]).outputs)


@few
@given(steps())
def test_shorter_moves_are_the_same_moves(found: list[list[int] | tuple[int, ...]]) -> None:
    program = captured(Moves(found), torch.randn(1, 4, 2, 6))
    rewritten = program.copy()
    hits = apply(shorten_moves, rewritten).hits
    assert _error(program, rewritten) == 0.0
    assert count(rewritten, *MOVES) <= count(program, *MOVES) - (hits > 0)
    assert count(rewritten, *MOVES) <= 3


class Projected(nn.Module):
    """Parts of one projection, in an order of heads and parts, with or without a bias, over tokens or an image."""

    def __init__(self, heads: int, parts_first: bool, image: bool, bias: bool, unbind: bool) -> None:
        super().__init__()
        self.heads, self.parts_first, self.image, self.unbind = heads, parts_first, image, unbind
        self.project = nn.Conv2d(4, 3 * heads * 2, 1, bias=bias) if image else nn.Linear(4, 3 * heads * 2, bias=bias)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = self.project(x)
        sizes = (3, self.heads, 2) if self.parts_first else (self.heads, 3, 2)
        y = y.unflatten(1 if self.image else -1, sizes)
        axis = (1 if self.image else y.dim() - 3) + (0 if self.parts_first else 1)
        return tuple(part.softmax(-1) for part in (y.unbind(axis) if self.unbind else y.chunk(3, axis)))


@few
@given(st.sampled_from([1, 2, 3]), st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_split_projections_compute_the_parts(
    heads: int, parts_first: bool, image: bool, bias: bool, unbind: bool
) -> None:
    shape = (2, 4, 3, 2) if image else (2, 5, 4)
    original = captured(Projected(heads, parts_first, image, bias, unbind), torch.randn(shape))
    for dtype, tolerance in TOLERANCE.items():
        program = original.to(dtype)
        rewritten = program.copy()
        take_parts(rewritten)
        assert apply(split_projection, rewritten).hits == 3
        assert count(rewritten, "aten.conv2d", "aten.linear") == 3
        assert count(rewritten, "aten.slice.Tensor", "aten.select.int") == 0
        assert _error(program, rewritten) <= tolerance
        weights = [t for t in rewritten.tensors().values() if t.dim() > 1]
        assert sum(weight.numel() for weight in weights) == math.prod((3, heads, 2, 4))
