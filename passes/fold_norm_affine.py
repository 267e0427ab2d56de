"""Weight and bias of layer, group and RMS norms into the linear operators behind them."""

from __future__ import annotations

from typing import Any as Anything
from typing import ClassVar

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from hycompile.builder import Value, call
from hycompile.passes.absorb.consumers import find_consumers
from hycompile.passes.affine import Affine
from hycompile.pattern import Any, Call, Captures
from hycompile.pipeline import RulePass
from hycompile.program import constant
from hycompile.rewrite import Rule, require, rule
from hycompile.schema import bind, is_call

NORMS = ("aten.layer_norm", "aten.group_norm", "aten.rms_norm")


class AffineNorm(Call):
    """A norm with weight or bias; captures it as ``norm``, its input as ``x``."""

    def __init__(self) -> None:
        super().__init__(NORMS, name="norm", input=Any("x"))

    def match(self, module: GraphModule, value: object, captures: Captures) -> Captures | None:
        found = super().match(module, value, captures)
        return found if found is not None and _given(found["norm"].node) else None


@rule(AffineNorm(), source="linearity; R11 of the rule catalogue")
def fold_norm_affine(norm: Value, x: Value) -> Value:
    """W (w N(x) + c) + b = W' N(x) + b':  W' = W diag(w) [in],  b' = b + W c [out].

    Given: a layer, group or RMS norm with constant weight and bias, all of whose uses end in convolutions or linears,
    through operators the affine map may pass (moves, pools, means, selections; products if there is no bias).
    Result: a norm without weight and bias, every such operator has folded weight and bias.

    Refused when a use is not linear (a residual), for a bias before a padded convolution, when the weight or bias is no
    constant, or varies along several axes.
    """
    a, module = bind(norm.node), norm.node.graph.owning_module
    given = _given(norm.node)
    tensors = {name: constant(module, node) for name, node in given.items()}  # type: ignore[arg-type]
    for name, tensor in tensors.items():
        require(tensor is not None, "the {} of {} is not a constant", name, norm.node.name)
    axis = channel_axis(norm.node)
    require(axis is not None, "{} normalises over {}, several axes", norm.node.name, a.get("normalized_shape"))
    affine = _affine(tensors.get("weight"), tensors.get("bias"))
    consumers = find_consumers(norm.node, axis, affine, "the norm")
    for consumer in consumers:
        moved = consumer.shifted_border(affine)
        require(not moved, "{} is padded: the bias would come back as a map behind it", consumer.node.name)
    for consumer in consumers:
        consumer.take(affine)
    free = {name: None if name in given else value for name, value in a.items()}
    return call(norm.node.target, x, *list(free.values())[1:])  # type: ignore[arg-type]


def _given(norm: Node) -> dict[str, Node]:
    a = bind(norm)
    return {name: a[name] for name in ("weight", "bias") if a.get(name) is not None}


def channel_axis(norm: Node) -> int | None:
    """The axis that weight and bias of a norm belong to; None if they span several."""
    if is_call(norm, "aten.group_norm"):
        return 1
    shape: Anything = bind(norm)["normalized_shape"]
    return len(norm.meta["val"].shape) - 1 if len(shape) == 1 else None


def _affine(weight: Tensor | None, bias: Tensor | None) -> Affine:
    one = next(tensor for tensor in (weight, bias) if tensor is not None).double()
    scale = torch.ones_like(one) if weight is None else weight.double()
    return Affine(scale, torch.zeros_like(one) if bias is None else bias.double())


class FoldNormAffine(RulePass):
    """Weight and bias of a norm go into all linear operators that read it."""

    name: ClassVar[str] = "fold-norm-affine"
    rules: ClassVar[tuple[Rule, ...]] = (fold_norm_affine,)
