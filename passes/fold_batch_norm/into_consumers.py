"""Batch norm before convolutions and linears, also behind average pooling, as in Next-ViT's attention."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.fx import GraphModule, Node

from hycompile.builder import Value, call, edit
from hycompile.passes.affine import CONVOLUTIONS, Affine, along, channel_axis, input_bias, input_scaled, is_padded
from hycompile.passes.channels import axis_after
from hycompile.passes.fold_batch_norm.pattern import BATCH_NORM, affine_of
from hycompile.program import constant
from hycompile.rewrite import require, rule
from hycompile.schema import bind, is_call, operator_name

_POOLS = ("aten.avg_pool1d", "aten.avg_pool2d", "aten.avg_pool3d")


@rule(BATCH_NORM, source="Next-ViT's merge_bn (Li et al. 2022), generalised; R2 and R3 of the rule catalogue")
def fold_batch_norm_into_consumers(
    norm: Value,
    x: Value,
    gamma: Tensor | None,
    beta: Tensor | None,
    mean: Tensor | None,
    var: Tensor | None,
    eps: float,
) -> Value:
    """W BN(x) + b = W' x + b':  W' = W diag(s) [in],  b' = b + W t [out],  s = g / sqrt(var + eps),  t = beta - mean s.

    Given: a BN all of whose uses end, through moves that keep the channel axis and through average pooling whose
    weights sum to 1, in convolutions or linears with constant weights.
    Result: the BN is gone, every such operator has folded weight and bias. A padded convolution sees zeros beyond the
    border where it saw t before, so its bias becomes a map ``conv(t) + b`` [1, out, H, W] of the static output shape.

    Refused when a use is not linear, when pooling counts zero padding, and for a padded convolution of dynamic size.
    """
    affine = affine_of(norm, gamma, beta, mean, var, eps)
    module = norm.node.graph.owning_module
    for absorber in _absorbers(module, norm.node, 1, affine):  # type: ignore[arg-type]
        absorber.fold(affine)
    return x


@dataclass(frozen=True)
class _Absorber:
    """A linear operator that takes the affine map in."""

    node: Node
    weight: Tensor
    bias: Tensor | None

    def fold(self, affine: Affine) -> None:
        conv, a = Value(self.node), bind(self.node)
        groups = a.get("groups", 1)
        scaled = input_scaled(self.weight, affine, groups)
        if not self.shifted_border(affine):
            constant_part = input_bias(self.weight, affine, groups)
            edit(conv, weight=scaled, bias=constant_part if self.bias is None else constant_part + self.bias.double())
            return
        edit(conv, weight=scaled, bias=None)
        added = call("aten.add.Tensor", conv, self._bias_map(affine), after=conv)
        self.node.replace_all_uses_with(added.node, delete_user_cb=lambda user: user is not added.node)

    def shifted_border(self, affine: Affine) -> bool:
        return not is_call(self.node, "aten.linear") and is_padded(Value(self.node)) and bool((affine.shift != 0).any())

    def _bias_map(self, affine: Affine) -> Tensor:
        """What the convolution makes of the constant input ``t``, borders included: ``[1, out, ...]``."""
        a = bind(self.node)
        spatial = a["input"].meta["val"].shape[2:]
        rank = len(spatial) + 2
        constant_input = along(affine.shift, 1, rank).expand(1, -1, *spatial)
        geometry = [value for name, value in a.items() if name not in ("input", "weight", "bias")]
        bias = None if self.bias is None else self.bias.double()
        target = self.node.target
        return target(constant_input, self.weight.double(), bias, *geometry)  # type: ignore[operator]


def _absorbers(module: GraphModule, node: Node, axis: int, affine: Affine) -> list[_Absorber]:
    """Every linear operator the uses of ``node`` end in; raises a refusal if one of them does not."""
    found: list[_Absorber] = []
    for user in node.users:
        if is_call(user, *CONVOLUTIONS, "aten.linear") and bind(user)["input"] is node:
            found.append(_absorber(module, user, axis, affine))
            continue
        after = _after(user, axis)
        require(
            after is not None,
            "{} uses it and is neither linear nor a move that keeps the channel axis",
            operator_name(user),
        )
        found += _absorbers(module, user, after, affine)  # type: ignore[arg-type]
    require(found, "nothing uses it")
    return found


def _after(node: Node, axis: int) -> int | None:
    if node.op != "call_function":
        return None
    if is_call(node, *_POOLS):
        a = bind(node)
        padded = any(amount != 0 for amount in a["padding"])
        require(
            not padded or not a["count_include_pad"],
            "{} averages over zero padding (padding {})",
            node.name,
            a["padding"],
        )
        require(
            a.get("divisor_override") is None,
            "{} divides by {}, not by its window",
            node.name,
            a.get("divisor_override"),
        )
        batched = len(node.meta["val"].shape) == _POOLS.index(operator_name(node)) + 3
        return axis if axis == 1 and batched else None
    if is_call(node, "aten.mean.dim"):
        rank = len(node.args[0].meta["val"].shape)  # type: ignore[union-attr]
        a = bind(node)
        dims = sorted(dim % rank for dim in a["dim"] or range(rank))
        return None if axis in dims else axis if a["keepdim"] else axis - sum(dim < axis for dim in dims)
    return axis_after(node, axis)


def _absorber(module: GraphModule, node: Node, axis: int, affine: Affine) -> _Absorber:
    a = bind(node)
    own = channel_axis(node)
    require(axis == own, "{} mixes axis {}, the batch norm scales axis {}", node.name, own, axis)
    weight, bias = constant(module, a["weight"]), constant(module, a["bias"])
    require(weight is not None, "the weight of {} is not a constant", node.name)
    require(bias is not None or a["bias"] is None, "the bias of {} is not a constant", node.name)
    absorber = _Absorber(node, weight, bias)  # type: ignore[arg-type]
    if absorber.shifted_border(affine):
        sizes = tuple(a["input"].meta["val"].shape[2:])
        static = all(isinstance(size, int) for size in sizes)
        require(
            static, "{} is padded and its input size {} is dynamic: the bias map needs a fixed one", node.name, sizes
        )
    return absorber
