"""Rules that are wrong on purpose: parity must catch each and name the pass, the rule and the error."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from hycompile.builder import Value, call
from hycompile.errors import ParityError
from hycompile.passes.affine import input_bias, input_scaled, of_batch_norm, output_bias, output_scaled
from hycompile.pattern import Any, Arg, Call, Const
from hycompile.pipeline import Pipeline, RulePass
from hycompile.rewrite import Rule, rule
from tests.passes.models import ReluThen
from tests.support import captured


def _norm_of(value: Any | Call) -> Call:
    return Call(
        "aten.batch_norm",
        input=value,
        weight=Const("gamma"),
        bias=Const("beta"),
        running_mean=Const("mean"),
        running_var=Const("var"),
        eps=Arg("eps"),
    )


def _conv_of(value: Any | Call, once: bool = False) -> Call:
    return Call("aten.conv2d", name="conv", once=once, input=value, weight=Const("w"), bias=Const("b"))


@rule(_norm_of(_conv_of(Any("x"), once=True)), source="R1, sign of the shift flipped")
def fold_with_flipped_sign(
    x: Value, w: Tensor, b: Tensor, conv: Value, gamma: Tensor, beta: Tensor, mean: Tensor, var: Tensor, eps: float
) -> Value:
    """BN(W x + b) = W' x + b', with +mean where -mean belongs."""
    affine = of_batch_norm(gamma, beta, -mean, var, eps)
    return call("aten.conv2d", x, output_scaled(w, affine), output_bias(b, affine), conv["stride"], conv["padding"])


@rule(_conv_of(_norm_of(Any("x"))), source="R2' of the rule catalogue")
def fold_naively_before_padding(
    x: Value, w: Tensor, b: Tensor, conv: Value, gamma: Tensor, beta: Tensor, mean: Tensor, var: Tensor, eps: float
) -> Value:
    """W BN(x) + b = W' x + b', as if the padding were shifted too."""
    affine = of_batch_norm(gamma, beta, mean, var, eps)
    bias = b.double() + input_bias(w, affine)
    return call("aten.conv2d", x, input_scaled(w, affine), bias, conv["stride"], conv["padding"])


@rule(_conv_of(Call("aten.avg_pool2d", name="pool", self=_norm_of(Any("x")))), source="S8 of the rule catalogue")
def fold_through_counted_padding(
    x: Value,
    w: Tensor,
    b: Tensor,
    pool: Value,
    gamma: Tensor,
    beta: Tensor,
    mean: Tensor,
    var: Tensor,
    eps: float,
) -> Value:
    """W AvgPool(BN(x)) + b = W' AvgPool(x) + b', as if zero padding were shifted too."""
    affine = of_batch_norm(gamma, beta, mean, var, eps)
    pooled = call("aten.avg_pool2d", x, pool["kernel_size"], pool["stride"], pool["padding"])
    return call("aten.conv2d", pooled, input_scaled(w, affine), b.double() + input_bias(w, affine))


CASES: list[tuple[Rule, Callable[[], nn.Module]]] = [
    (fold_with_flipped_sign, lambda: nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))),
    (fold_naively_before_padding, lambda: ReluThen(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1))),
    (
        fold_through_counted_padding,
        lambda: ReluThen(nn.BatchNorm2d(4), nn.AvgPool2d(4, 4, 2, count_include_pad=True), nn.Conv2d(4, 4, 1)),
    ),
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
    assert "\n" not in message


def test_float64_catches_what_float32_lets_pass() -> None:
    """An error of 1e-6 hides in float32 rounding; the float64 twin is held to 1e-9."""

    @rule(_norm_of(_conv_of(Any("x"), once=True)), source="R1, with another eps")
    def fold_with_other_eps(
        x: Value, w: Tensor, b: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, var: Tensor, eps: float
    ) -> Value:
        """BN(W x + b) = W' x + b', with eps 2e-6 too large."""
        affine = of_batch_norm(gamma, beta, mean, var, eps + 2e-6)
        return call("aten.conv2d", x, output_scaled(w, affine), output_bias(b, affine))

    class Subtle(RulePass):
        name: ClassVar[str] = "subtle"
        rules: ClassVar[tuple[Rule, ...]] = (fold_with_other_eps,)

    program = captured(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)), torch.randn(2, 4, 4, 4))
    Pipeline((Subtle(),))(program, prove=False)
    with pytest.raises(ParityError, match=r"rule fold_with_other_eps: .* in float64, allowed 1e-09"):
        Pipeline((Subtle(),))(program)
