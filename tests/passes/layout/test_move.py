"""The algebra of moves, held against torch on numbered elements."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from hycompile.passes.layout.move import Move, identity, permuting, reshaping

SHAPES = st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=3).map(tuple)
many = settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def _numbered(shape: tuple[int, ...]) -> Tensor:
    return torch.arange(math.prod(shape)).reshape(shape)


def _applied(move: Move, x: Tensor) -> Tensor:
    for kind, argument in move.steps():
        x = x.reshape(argument) if kind == "reshape" else x.permute(argument)
    return x


@st.composite
def _regroupings(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[int, ...]:
    left, sizes = math.prod(shape), [1] * draw(st.integers(0, 1))
    while left > 1:
        sizes.append(draw(st.sampled_from([n for n in range(2, left + 1) if left % n == 0])))
        left //= sizes[-1]
    return tuple(sizes)


@st.composite
def _chains(draw: st.DrawFn) -> tuple[tuple[int, ...], list[Move]]:
    start = shape = draw(SHAPES)
    moves: list[Move] = []
    for _ in range(draw(st.integers(1, 5))):
        permute = draw(st.booleans())
        order = draw(st.permutations(range(len(shape))))
        moves.append(permuting(shape, order) if permute else reshaping(shape, draw(_regroupings(shape))))
        shape = moves[-1].target
    return start, moves


@many
@given(_chains())
def test_a_chain_is_one_move(chain: tuple[tuple[int, ...], list[Move]]) -> None:
    shape, moves = chain
    whole: Move | None = identity(shape)
    expected = _numbered(shape)
    for move in moves:
        expected = _applied(move, expected)
        whole = whole.then(move) if whole is not None else None
    if whole is None:
        return
    assert torch.equal(_applied(whole, _numbered(shape)), expected)
    assert len(whole.steps()) <= 3
    back = whole.then(whole.inverse())
    assert back is not None
    assert back.is_identity


@many
@given(_chains())
def test_another_size_of_a_whole_dimension(chain: tuple[tuple[int, ...], list[Move]]) -> None:
    shape, moves = chain
    whole: Move | None = identity(shape)
    for move in moves:
        whole = whole.then(move) if whole is not None else None
    for axis, end in (whole.axes() if whole is not None else {}).items():
        assert whole is not None
        assert whole.resized(axis, shape[axis]) == whole
        five, one = whole.resized(axis, 5), whole.resized(axis, 1)
        x = _numbered(five.source)
        assert torch.equal(_applied(five, x).narrow(end, 3, 1), _applied(one, x.narrow(axis, 3, 1)))


def test_broadcast_operand() -> None:
    move = permuting((2, 4, 4, 8), (0, 3, 1, 2)).then(reshaping((2, 8, 4, 4), (2, 8, 16)))
    assert move is not None
    small = move.broadcast((1, 1, 1, 8))
    assert small is not None
    x, y = torch.randn(2, 4, 4, 8), torch.randn(1, 1, 1, 8)
    assert torch.equal(_applied(move, x + y), _applied(move, x) + _applied(small, y))
    assert move.broadcast((1, 4, 1, 8)) is None
    assert move.broadcast((2, 4, 3, 8)) is None


def test_sizes_that_cut_across_each_other_do_not_compose() -> None:
    assert permuting((4, 6), (1, 0)).then(permuting((6, 4), (1, 0))) == identity((4, 6))
    crossing = reshaping((6, 4), (4, 6)).then(permuting((4, 6), (1, 0)))
    assert crossing is not None
    assert permuting((4, 6), (1, 0)).then(crossing) is None


def test_only_whole_dimensions_change_size() -> None:
    move = reshaping((2, 4, 6), (8, 6))
    assert move.axes() == {2: 1}
    with pytest.raises(KeyError):
        move.resized(0, 5)
