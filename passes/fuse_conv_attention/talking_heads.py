"""The mixing of heads before the softmax takes scale and bias."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.fx import GraphModule

from hycompile.builder import Value, call
from hycompile.passes.fuse_conv_attention.layout import static
from hycompile.passes.fuse_conv_attention.logits import logits_of
from hycompile.pattern import Any, Call, Captures, Const
from hycompile.rewrite import require, rule


class _Mixing(Call):
    """A convolution with as many channels out as in; any other makes weights, as in separable attention."""

    def match(self, module: GraphModule, value: object, captures: Captures) -> Captures | None:
        found = super().match(module, value, captures)
        return found if found is not None and found["weight"].shape[0] == found["weight"].shape[1] else None


_MIXED = _Mixing(
    "aten.conv2d",
    name="mixing",
    input=Any("logits"),
    weight=Const("weight"),
    bias=Const("bias", optional=True),
    once=True,
)


@rule(
    Call("aten.softmax.int", name="softmax", self=_MIXED),
    source="Shazeer et al. 2020 (talking heads), as in EfficientFormerV2; R13 of the rule catalogue",
)
def fold_into_talking_head(softmax: Value, mixing: Value, logits: Value, weight: Tensor, bias: Tensor | None) -> Value:
    """T (s Q K^T + B) + b = (s T) Q K^T + (T B + b).

    Given: a 1x1 convolution over heads between logits and softmax, behind a constant scale and a constant bias.
    Result: the convolution takes the scale and loses its bias, one constant ``[1, heads, L, S]`` is added behind it.

    Refused where the convolution is more than a mixing of heads, where the logits are no product with scale and bias,
    and where the bias is computed at run time.
    """
    heads = logits.shape[1] if len(logits.shape) == 4 else None
    plain = tuple(weight.shape) == (heads, heads, 1, 1) and not any(mixing["padding"]) and mixing["stride"] == [1, 1]
    require(plain, "a convolution with weight {} does more than mix heads", list(weight.shape))
    found = logits_of(softmax.node.graph.owning_module, logits.node)  # type: ignore[arg-type]
    require(not isinstance(found.bias, Value), "the bias of the logits is computed at run time")
    factor = torch.tensor(found.scale, dtype=torch.float64)
    if found.factor is not None:
        factor = factor * found.factor.reshape(1, -1, 1, 1)
    mixed = call("aten.conv2d", call("aten.matmul", found.left, found.right), weight.double() * factor)
    constant = _constant(found.bias, weight.double(), bias, logits)
    total = mixed if constant is None else call("aten.add.Tensor", mixed, constant)
    return call("aten.softmax.int", total, softmax["dim"], softmax["dtype"])


def _constant(added: object, weight: Tensor, bias: Tensor | None, logits: Value) -> Tensor | None:
    own = None if bias is None else bias.double().reshape(1, -1, 1, 1)
    if not isinstance(added, Tensor):
        return own
    rows, columns = logits.shape[-2:]
    require(static((rows, columns)), "the logits have a dynamic size {}", [rows, columns])
    full = added.double().expand(1, logits.shape[1], rows, columns)
    mixed = torch.ops.aten.conv2d.default(full, weight)
    return mixed if own is None else mixed + own
