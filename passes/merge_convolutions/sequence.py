"""Two linear operators in a row, one of which reads single positions."""

from __future__ import annotations

from torch.fx import GraphModule, Node

from hycompile.builder import Value
from hycompile.passes.affine import CONVOLUTIONS
from hycompile.passes.merge_convolutions.branch import POOLS
from hycompile.passes.merge_convolutions.composition import compose
from hycompile.pattern import Call, Captures
from hycompile.rewrite import rule
from hycompile.schema import bind


class Sequence(Call):
    """A convolution whose input is an operator of ``first``; one of the two, as said, reads single positions.

    Captured as ``first`` and ``conv``.
    """

    def __init__(self, first: tuple[str, ...], *, pointwise: str) -> None:
        super().__init__(CONVOLUTIONS, name="conv", input=Call(first, name="first"))
        self.pointwise = pointwise

    def match(self, module: GraphModule, value: object, captures: Captures) -> Captures | None:
        found = super().match(module, value, captures)
        if found is None:
            return None
        first, second = (_is_pointwise(found[name].node) for name in ("first", "conv"))
        return found if (second if self.pointwise == "conv" else first and not second) else None


@rule(Sequence(CONVOLUTIONS, pointwise="conv"), source="linear maps compose; R7 and R17 of the rule catalogue")
def merge_convolution_into_pointwise(first: Value, conv: Value) -> Value:
    """W2 (W1 x + b1) + b2 = W' x + b':  W'[o, i, k] = sum_m W2[o, m] W1[m, i, k],  b' = b2 + W2 b1.

    Given: a convolution of any kernel, padding and stride, and an unpadded 1x1 convolution of its result, with or
    without a stride; any groups of both, the result has gcd(g1, g2). A depthwise one before a pointwise is the case
    ``W'[o, c, k] = W2[o, c] W1[c, k]``; a batch norm that stands behind a merged convolution is another.
    Result: one convolution, exact for any padding of the first.

    Refused when the first has another user, when a weight or bias is not constant, when the first pads one end more
    than the other, and when one convolution takes more multiply-accumulates than the two, as it nearly always does
    for depthwise before pointwise.
    """
    return compose(first.node, conv.node).build()


@rule(Sequence(CONVOLUTIONS, pointwise="first"), source="linear maps compose; R6 of the rule catalogue")
def merge_pointwise_into_convolution(first: Value, conv: Value) -> Value:
    """W2 (W1 x + b1) + b2 = W' x + b':  W'[o, i, k] = sum_m W2[o, m, k] W1[m, i],  b' = b2 + sum_k W2[k] b1.

    Given: an unpadded 1x1 convolution of stride 1, and a k x k convolution of its result; any groups of both.
    Result: one convolution with the geometry of the second. If that pads, it sees zeros beyond the border and b1
    inside: then b' is a map ``W2 b1 + b2`` [1, out, H, W] of the static output size, added to the result.

    Refused when the first has a stride or another user, when a weight or bias is not constant, when the bias map would
    be of dynamic size, when the second pads one end more than the other, and when one convolution takes more
    multiply-accumulates than the two: it saves only if the 1x1 has at least about as many outputs as inputs.
    """
    return compose(first.node, conv.node).build()


@rule(Sequence(POOLS, pointwise="conv"), source="average pooling is a convolution; R8 of the rule catalogue")
def merge_pooling_into_pointwise(first: Value, conv: Value) -> Value:
    """W avgpool_p(x) + b = W' x + b, strided as the pooling:  W'[o, i, k] = W[o, i] / p^2 at each of the p x p taps.

    Given: average pooling of full windows and an unpadded 1x1 convolution of its result.
    Result: one p x p convolution with the stride and padding of the pooling.

    Refused when the pooling's last windows are partial (Next-ViT's ``ceil_mode`` on an odd size) or leave padding out
    of the average, when it has another user, when a weight or bias is not constant, and when the convolution takes more
    multiply-accumulates than pooling and 1x1 take additions and multiplications: all but depthwise ones do.
    """
    return compose(first.node, conv.node).build()


def _is_pointwise(node: Node) -> bool:
    a = bind(node)
    if "weight" not in a:
        return False
    padded = a["padding"] not in ("same", "valid") and any(amount != 0 for amount in a["padding"])
    return not padded and all(size == 1 for size in a["weight"].meta["val"].shape[2:])
