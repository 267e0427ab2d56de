"""Write a rewrite rule, run it as a pass, see the graph before and after, and see a wrong version caught.

The rule takes a layer scale, a learned factor per channel behind a linear layer, into that layer. `docs/rules.md`
explains the pattern language, and how a pass in a package of your own is found by name.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import hycompile as hy
from hycompile.errors import ParityError
from hycompile.pattern import Any, Call, Const

SCALED_LINEAR = Call(
    "aten.mul.Tensor",
    commutative=True,
    self=Call("aten.linear", input=Any("x"), weight=Const("weight"), bias=Const("bias"), once=True),
    other=Const("gamma"),
)


@hy.rule(SCALED_LINEAR, source="the rows of a matrix product scale one by one")
def fold_layer_scale(x: hy.Value, weight: Tensor, bias: Tensor, gamma: Tensor) -> hy.Value:
    """g (W x + b) = W' x + b':  W' = diag(g) W [out, in],  b' = g b [out]."""
    hy.require(gamma.shape == bias.shape, "gamma is {}, the layer has {} outputs", list(gamma.shape), bias.numel())
    return hy.call("aten.linear", x, gamma[:, None] * weight, gamma * bias)


@hy.rule(SCALED_LINEAR, source="the same with a mistake")
def fold_with_flipped_sign(x: hy.Value, weight: Tensor, bias: Tensor, gamma: Tensor) -> hy.Value:
    """g (W x + b) = W' x - g b, which is wrong."""
    return hy.call("aten.linear", x, gamma[:, None] * weight, -gamma * bias)


class FoldLayerScale(hy.RulePass):
    """Layer scales go into the linear layers before them."""

    name = "fold-layer-scale"
    rules = (fold_layer_scale,)


class Wrong(hy.RulePass):
    """What parity is for."""

    name = "wrong"
    rules = (fold_with_flipped_sign,)


class Block(nn.Module):
    """The feed-forward half of a transformer block with a layer scale: ``x + gamma * linear(gelu(linear(x)))``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.widen, self.narrow = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)
        self.gamma = nn.Parameter(torch.rand(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gamma * self.narrow(nn.functional.gelu(self.widen(x)))


def main() -> None:
    """Run the right rule, then the wrong one."""
    torch.manual_seed(0)
    program = hy.capture(Block(8).eval(), (torch.randn(1, 16, 8),))
    print(f"before\n{program.text()}")

    rewritten, report = hy.Pipeline((FoldLayerScale(),))(program)
    print(f"after\n{rewritten.text()}")
    (rule,) = report.passes[0].rules
    print(f"{rule.rule}: {rule.hits} hit, error {rule.error_fp32:.1e} in float32, {rule.error_fp64:.1e} in float64\n")

    try:
        hy.Pipeline((Wrong(),))(program)
    except ParityError as error:
        print(f"the wrong version: {error}")


if __name__ == "__main__":
    main()
