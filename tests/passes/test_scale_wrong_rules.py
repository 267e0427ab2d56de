"""The wrong variants of the scale, norm and linear rules: parity must catch each and name it."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import Tensor

from hycompile.builder import Value, call
from hycompile.errors import ParityError
from hycompile.passes.absorb.producer import find_producer
from hycompile.passes.affine import Affine, input_bias, input_scaled
from hycompile.passes.fold_scale.pattern import ConstantMap
from hycompile.pattern import Any, Call, Const
from hycompile.pipeline import Pipeline, RulePass
from hycompile.rewrite import Rule, rule
from tests.passes.scale_models import Forward, Parts
from tests.support import captured

_LINEAR = Call("aten.linear", input=Any("x"), weight=Const("w"), bias=Const("b"))
_FIRST = Call("aten.linear", input=Any("x"), weight=Const("w1"), bias=Const("b1"))


@rule(
    Call("aten.mul.Tensor", self=Call("aten.add.Tensor", self=Any("x"), other=Any("branch")), other=Const("c")),
    source="S12 of the rule catalogue",
)
def scale_across_residual(x: Value, branch: Value, c: Tensor) -> Value:
    """c (x + f(x)) = x + c f(x), which it is not."""
    return call(
        "aten.add.Tensor", x, find_producer(branch.node, 2, Affine(c, c * 0), "the scale").fold(Affine(c, c * 0))
    )


@rule(ConstantMap(), source="R10 with the bias forgotten")
def scale_without_bias(x: Value, affine: Affine) -> Value:
    """s (W x + b) = (s W) x + b, which leaves b as it was."""
    kept = find_producer(x.node, 2, affine, "the scale").operator
    return call("aten.linear", Value(kept.node.args[0]), kept.weight * affine.scale[:, None], kept.bias)  # type: ignore[arg-type]


@rule(
    Call("aten.conv2d", name="conv", input=Call("aten.add.Tensor", self=Any("x"), other=Const("t")), weight=Const("w"),
         bias=Const("b")),
    source="R2' of the rule catalogue",
)  # fmt: skip
def term_before_padding(x: Value, t: Tensor, conv: Value, w: Tensor, b: Tensor) -> Value:
    """W (x + t) + b = W x + (b + W t), as if the padding held t."""
    shift = Affine(torch.ones(4), t.flatten())
    return call("aten.conv2d", x, w, b + input_bias(w, shift), conv["stride"], conv["padding"])


@rule(
    Call("aten.linear", input=Call("aten.layer_norm", name="norm", input=Any("x"), weight=Const("g")),
         weight=Const("w"), bias=Const("b")),
    source="R11 with the norm's bias forgotten",
)  # fmt: skip
def norm_without_its_bias(x: Value, norm: Value, g: Tensor, w: Tensor, b: Tensor) -> Value:
    """W (g N(x) + c) + b = (W g) N(x) + b, which drops c."""
    free = call("aten.layer_norm", x, norm["normalized_shape"])
    return call("aten.linear", free, input_scaled(w, Affine(g, g * 0)), b)


@rule(Call("aten.linear", input=_FIRST, weight=Const("w2"), bias=Const("b2")), source="R22 with b1 unweighted")
def series_without_inner_bias(x: Value, w1: Tensor, w2: Tensor, b2: Tensor) -> Value:
    """W2 (W1 x + b1) + b2 = (W2 W1) x + b2, which drops b1."""
    return call("aten.linear", x, w2 @ w1, b2)


@rule(Call("aten.add.Tensor", self=_FIRST, other=_LINEAR), source="R24 with alpha taken for one")
def sum_without_alpha(x: Value, w: Tensor, b: Tensor, w1: Tensor, b1: Tensor) -> Value:
    """A x + alpha B x = (A + B) x, whatever alpha."""
    return call("aten.linear", x, w + w1, b + b1)


@rule(
    Call("aten.conv2d", input=Call("aten.upsample_bilinear2d.vec", name="up", input=Any("x")), weight=Const("w"),
         bias=Const("b"), name="conv"),
    source="R18 with a kernel that mixes positions",
)  # fmt: skip
def kernel_before_upsample(x: Value, up: Value, conv: Value, w: Tensor, b: Tensor) -> Value:
    """W up(x) + b = up(W x + b), for a 3x3 kernel too."""
    moved = call("aten.conv2d", x, w, b, conv["stride"], conv["padding"])
    return call("aten.upsample_bilinear2d.vec", moved, up["output_size"], up["align_corners"], up["scale_factors"])


IMAGE, TOKENS = (2, 4, 5, 5), (2, 3, 4)
CASES: list[tuple[Rule, Forward, tuple[int, ...]]] = [
    (scale_across_residual, lambda m, x: (x.relu() + m.back(m.linear(x))) * m.c4, TOKENS),
    (scale_without_bias, lambda m, x: m.linear(x) * m.c6, TOKENS),
    (term_before_padding, lambda m, x: m.padded(x + m.image4), IMAGE),
    (norm_without_its_bias, lambda m, x: m.linear(m.layer_norm(x)), TOKENS),
    (series_without_inner_bias, lambda m, x: m.back(m.linear(x)), TOKENS),
    (sum_without_alpha, lambda m, x: torch.add(m.linear(x), m.other(x), alpha=2), TOKENS),
    (kernel_before_upsample, lambda m, x: m.padded(
        torch.nn.functional.interpolate(x, scale_factor=2, mode="bilinear")), IMAGE),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "forward", "shape"), CASES, ids=[case[0].name for case in CASES])
def test_parity_catches_it(wrong: Rule, forward: Forward, shape: tuple[int, ...]) -> None:
    class WrongPass(RulePass):
        name: ClassVar[str] = "wrong-pass"
        rules: ClassVar[tuple[Rule, ...]] = (wrong,)

    program = captured(Parts(forward), torch.randn(shape))
    with pytest.raises(ParityError, match=f"pass wrong-pass, rule {wrong.name}: changed what the model computes"):
        Pipeline((WrongPass(),))(program)
