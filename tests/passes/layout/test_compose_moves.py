"""Chains of moves: golden text, parity, what stays, and a wrong composition."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from hycompile.builder import Value, call
from hycompile.errors import ParityError
from hycompile.parity import Proof
from hycompile.passes.layout.compose_moves import compose_moves
from hycompile.pattern import Any, Call
from hycompile.pipeline import Pipeline, RulePass
from hycompile.rewrite import Rule, apply, rule
from hycompile.text import graph_text
from tests.passes.layout.models import Function, image, tokens, unwindowed, windows
from tests.support import captured

IMAGE, LAST = (2, 8, 4, 4), (2, 4, 4, 8)


def _unfolded(m: Function, x: Tensor) -> Tensor:
    """MobileViT's patches, moved twice on the way to tokens."""
    x = x.reshape(32, 2, 2, 2).transpose(1, 2).reshape(2, 8, -1, 4)
    return x.transpose(1, 3).reshape(8, -1, 8) * 2


def _two_uses(m: Function, x: Tensor) -> tuple[Tensor, ...]:
    y = x.permute(0, 2, 3, 1)
    return y.permute(0, 3, 1, 2) * 2, y.relu()


CASES = [
    ("there_and_back", lambda m, x: image(tokens(x)) * 2, IMAGE, 1, 0),
    ("windows_and_back", lambda m, x: unwindowed(windows(x)) * 2, LAST, 1, 0),
    ("two_permutes", lambda m, x: x.permute(0, 2, 3, 1).permute(0, 2, 1, 3) * 2, IMAGE, 1, 1),
    ("permute_of_ones", lambda m, x: x.reshape(1, 4, 1, 64).permute(0, 2, 1, 3) * 2, IMAGE, 1, 1),
    ("unfolded", _unfolded, IMAGE, 1, 3),
    ("two_uses", _two_uses, IMAGE, 1, 1),
]


@pytest.mark.parametrize(("case", "forward", "shape", "hits", "left"), CASES, ids=[case[0] for case in CASES])
def test_rule(
    case: str,
    forward: Callable[[Function, Tensor], Tensor],
    shape: tuple[int, ...],
    hits: int,
    left: int,
    golden: Callable[[str, str, str], None],
) -> None:
    program = captured(Function(forward), torch.randn(shape))
    proof, before = Proof(program), program.text()
    report = apply(compose_moves, program)
    assert report.hits >= hits
    assert report.refusals == []
    assert proof.check(program, "compose_moves", 0.0) == 0.0
    text = graph_text(program.methods["forward"].graph)
    assert text.count("aten.reshape(") + text.count("aten.permute(") + text.count("aten.transpose") == left
    assert apply(compose_moves, program).hits == 0
    golden(f"compose_moves/{case}", before, text)


def _stays(forward: Callable[[Function, Tensor], Tensor], shape: tuple[int, ...] = IMAGE, **options: object) -> None:
    program = captured(Function(forward), torch.randn(shape), **options)
    before = program.text()
    assert apply(compose_moves, program).hits == 0
    assert program.text() == before


def test_shortest_form_stays() -> None:
    _stays(lambda m, x: tokens(x) * 2)


def test_sizes_that_cut_across_each_other_stay() -> None:
    _stays(lambda m, x: x.permute(0, 2, 1).reshape(2, 4, 15).permute(0, 2, 1) * 2, (2, 6, 10))


def test_dynamic_size_stays() -> None:
    sizes = {3: torch.export.Dim("width", min=2, max=16)}
    _stays(lambda m, x: x.permute(0, 2, 3, 1).permute(0, 3, 1, 2) * 2, dynamic_shapes=(sizes,))


@rule(Call("aten.permute", name="last", self=Call("aten.permute", self=Any("x"))), source="a mistake")
def compose_in_reverse(last: Value, x: Value) -> Value:
    """permute(permute(x, a), b) = permute(x, b[a]), where it is a[b]."""
    first: list[int] = last["self"]["dims"]
    return call("aten.permute", x, [last["dims"][dim] for dim in first])


def test_parity_catches_the_wrong_order() -> None:
    class Wrong(RulePass):
        name: ClassVar[str] = "wrong"
        rules: ClassVar[tuple[Rule, ...]] = (compose_in_reverse,)

    def forward(m: Function, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).permute(0, 2, 1, 3) * 2

    program = captured(Function(forward), torch.randn(4, 4, 4, 4))
    with pytest.raises(ParityError, match="rule compose_in_reverse: changed what the model computes"):
        Pipeline((Wrong(),))(program)
