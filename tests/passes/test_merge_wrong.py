"""Wrong ways of merging convolutions: parity must catch each and name the pass, the rule and the error."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hycompile.builder import Value, call
from hycompile.errors import ParityError
from hycompile.passes.merge_convolutions.geometry import regrouped
from hycompile.pattern import Any, Call, Const
from hycompile.pipeline import Pipeline, RulePass
from hycompile.rewrite import Rule, rule
from tests.passes.branches import Function, Sum
from tests.support import captured


def _conv(number: int, value: Any | Call) -> Call:
    return Call(
        "aten.conv2d", name=f"conv{number}", input=value, weight=Const(f"w{number}"), bias=Const(f"b{number}", True)
    )


TWO = Call("aten.add.Tensor", self=_conv(1, Any("x")), other=_conv(2, Any("x")))
MIXER = Call("aten.sub.Tensor", self=Call("aten.avg_pool2d", self=Any("x")), other=Any("x"))


@rule(TWO, source="S9 of the rule catalogue")
def align_at_the_corner(x: Value, w1: Tensor, w2: Tensor, b1: Tensor, b2: Tensor) -> Value:
    """W1 x + W2 x = W' x, as if the 1x1 kernel were the first tap of the 3x3 one."""
    return call("aten.conv2d", x, w1 + F.pad(w2, (0, 2, 0, 2)), b1 + b2, [1, 1], [1, 1])


@rule(TWO, source="R5 of the rule catalogue, with the channels of groups interleaved")
def interleave_groups(x: Value, w1: Tensor, w2: Tensor, b1: Tensor, b2: Tensor) -> Value:
    """W1 x + W2 x = W' x, as if the second's channel c belonged to group c mod 2."""
    shuffled = regrouped(w2, 2, 1).reshape(4, 2, 2, 3, 3).transpose(1, 2).reshape(4, 4, 3, 3)
    return call("aten.conv2d", x, w1 + shuffled, b1 + b2, [1, 1], [1, 1])


@rule(Call("aten.add.Tensor", self=Any("x"), other=_conv(1, Any("x"))), source="R4 of the rule catalogue, off centre")
def identity_at_the_corner(x: Value, w1: Tensor, b1: Tensor) -> Value:
    """x + W x = W' x, as if the input were the first tap."""
    eye = torch.eye(4).reshape(4, 4, 1, 1)
    return call("aten.conv2d", x, w1 + F.pad(eye, (0, 2, 0, 2)), b1, [1, 1], [1, 1])


@rule(_conv(2, _conv(1, Any("x"))), source="R6 of the rule catalogue")
def ignore_the_padding(x: Value, w1: Tensor, w2: Tensor, b1: Tensor, b2: Tensor) -> Value:
    """W2 (W1 x + b1) + b2 = W' x + W2 b1 + b2, as if b1 reached beyond the border."""
    weight = torch.einsum("omhw,mi->oihw", w2, w1[:, :, 0, 0])
    return call("aten.conv2d", x, weight, b2 + w2.sum((2, 3)) @ b1, [1, 1], [1, 1])


@rule(MIXER, source="R9 of the rule catalogue")
def count_the_padding(x: Value) -> Value:
    """avgpool(x) - x = W x, as if zeros beyond the border were averaged too."""
    weight = torch.full((4, 1, 3, 3), 1 / 9)
    weight[:, :, 1, 1] -= 1
    return call("aten.conv2d", x, weight, None, [1, 1], [1, 1], [1, 1], 4)


@rule(MIXER, source="R9'' of the rule catalogue")
def repeat_the_border(x: Value) -> Value:
    """avgpool(x) - x = W pad(x), as if the values at the border were repeated beyond it."""
    weight = torch.full((4, 1, 3, 3), 1 / 9)
    weight[:, :, 1, 1] -= 1
    return call("aten.conv2d", call("aten.replication_pad2d", x, [1, 1, 1, 1]), weight, None, [1, 1], [0, 0], [1, 1], 4)


@rule(
    Call("aten.conv2d", input=Call("aten.avg_pool2d", self=Any("x")), weight=Const("w"), bias=Const("b")),
    source="S10 of the rule catalogue",
)
def average_over_zeros(x: Value, w: Tensor, b: Tensor) -> Value:
    """W avgpool(x) + b = W' x + b, as if the last windows of an odd size were full."""
    return call("aten.conv2d", x, (w / 4).expand(-1, -1, 2, 2), b, [2, 2], [1, 1])


MIX = Function(lambda m, x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False) - x)
CASES: list[tuple[Rule, Callable[[], nn.Module]]] = [
    (align_at_the_corner, lambda: Sum(nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1))),
    (interleave_groups, lambda: Sum(nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1, groups=2))),
    (identity_at_the_corner, lambda: Function(lambda m, x: x + m.a(x), a=nn.Conv2d(4, 4, 3, padding=1))),
    (ignore_the_padding, lambda: nn.Sequential(nn.Conv2d(4, 8, 1), nn.Conv2d(8, 4, 3, padding=1))),
    (count_the_padding, lambda: MIX),
    (repeat_the_border, lambda: MIX),
    (average_over_zeros, lambda: nn.Sequential(nn.AvgPool2d(2, 2, 1, True, False), nn.Conv2d(4, 4, 1))),
]


@pytest.mark.parametrize(("wrong", "make"), CASES, ids=[case[0].name for case in CASES])
def test_parity_catches_it(wrong: Rule, make: Callable[[], nn.Module]) -> None:
    class WrongPass(RulePass):
        name: ClassVar[str] = "wrong-pass"
        rules: ClassVar[tuple[Rule, ...]] = (wrong,)

    program = captured(make(), torch.randn(2, 4, 8, 8))
    with pytest.raises(ParityError) as caught:
        Pipeline((WrongPass(),))(program)
    message = str(caught.value)
    assert message.startswith(f"pass wrong-pass, rule {wrong.name}: changed what the model computes: relative error ")
    found = re.search(r"relative error (\S+) at forward, output 0 in float32, allowed 1e-04; ", message)
    assert found is not None, message
    assert 0.02 < float(found[1]) < 2
