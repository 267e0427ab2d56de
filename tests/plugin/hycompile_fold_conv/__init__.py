"""Batch norm into the convolution before it, as somebody else's package would write it."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

import hycompile as hy
from hycompile.pattern import Any, Arg, Call, Const
from hycompile.rewrite import Rule

CONV = Call("aten.conv2d", name="conv", once=True, input=Any("x"), weight=Const("w"), bias=Const("b"), groups=1)
NORM = Call("aten.batch_norm", input=CONV, weight=Const("g"), bias=Const("beta"), running_mean=Const("mean"),
            running_var=Const("var"), eps=Arg("eps"))  # fmt: skip


@hy.rule(NORM, source="Jacob et al. 2018, section 3.2")
def fold_conv(x: hy.Value, conv: hy.Value, w: Tensor, b: Tensor, g: Tensor, beta: Tensor, mean: Tensor, var: Tensor,
              eps: float) -> hy.Value:  # fmt: skip
    """BN(conv(x, w, b)) = conv(x, s w, s (b - mean) + beta),  s = g / sqrt(var + eps)."""
    s = g * torch.rsqrt(var + eps)
    hy.require(conv["dilation"] == [1, 1], "{} is dilated by {}", conv.node.name, conv["dilation"])
    return hy.call("aten.conv2d", x, w * s[:, None, None, None], s * (b - mean) + beta, conv["stride"], conv["padding"])


class FoldConv(hy.RulePass):
    """Convolutions take in the batch norms after them."""

    name: ClassVar[str] = "fold-conv"
    rules: ClassVar[tuple[Rule, ...]] = (fold_conv,)
