"""A convolution, transposed convolution or linear with constant weights, and what it makes of an affine map."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.fx import Node

from hycompile.builder import Value, call, edit
from hycompile.passes.absorb.readers import readers_of
from hycompile.passes.affine import (
    CONVOLUTIONS,
    TRANSPOSED,
    Affine,
    along,
    channel_axis,
    input_bias,
    input_scaled,
    is_padded,
    output_bias,
    output_scaled,
)
from hycompile.program import constant
from hycompile.rewrite import require
from hycompile.schema import bind, is_call

# A weight with other users stays as it is for them: a tied embedding table would be in memory twice.
MAX_COPY_BYTES = 1 << 24
LINEAR = (*CONVOLUTIONS, *TRANSPOSED, "aten.linear")


@dataclass(frozen=True)
class LinearOperator:
    """A linear operator whose weight ``[out, in / groups, ...]`` (transposed: ``[in, out / groups, ...]``) is known."""

    node: Node
    weight: Tensor
    bias: Tensor | None

    @property
    def groups(self) -> int:
        return bind(self.node).get("groups", 1)

    @property
    def transposed(self) -> bool:
        return is_call(self.node, *TRANSPOSED)

    @property
    def inputs(self) -> int:
        return self.weight.shape[0] if self.transposed else self.weight.shape[1] * self.groups

    @property
    def outputs(self) -> int:
        return self.weight.shape[1] * self.groups if self.transposed else self.weight.shape[0]

    def then(self, affine: Affine) -> Value:
        """A new call that computes ``affine`` of what this one computes."""
        a, affine = bind(self.node), affine.over(self.outputs)
        folded = output_scaled(self.weight, affine, self.groups, self.transposed)
        bias = None if self.bias is None and not affine.shifts else output_bias(self.bias, affine)
        geometry = [value for name, value in a.items() if name not in ("input", "weight", "bias")]
        return call(self.node.target, Value(a["input"]), folded, bias, *geometry)  # type: ignore[arg-type]

    def scale_output(self, affine: Affine) -> None:
        """Change weight and bias so that it computes ``affine`` of what it computed."""
        affine = affine.over(self.outputs)
        bias = None if self.bias is None and not affine.shifts else output_bias(self.bias, affine)
        edit(Value(self.node), weight=output_scaled(self.weight, affine, self.groups, self.transposed), bias=bias)

    def shifted_border(self, affine: Affine) -> bool:
        """Whether it reads zeros beyond a border that the map would have shifted."""
        return not is_call(self.node, "aten.linear") and is_padded(Value(self.node)) and affine.shifts

    def take(self, affine: Affine) -> None:
        """Change weight and bias so that it computes what it computed of the map's output from the map's input."""
        conv, affine = Value(self.node), affine.over(self.inputs)
        scaled = input_scaled(self.weight, affine, self.groups, self.transposed)
        if not affine.shifts:
            edit(conv, weight=scaled)
        elif not self.shifted_border(affine):
            added = input_bias(self.weight, affine, self.groups)
            edit(conv, weight=scaled, bias=added if self.bias is None else added + self.bias.double())
        else:
            edit(conv, weight=scaled, bias=None)
            total = call("aten.add.Tensor", conv, self._bias_map(affine), after=conv)
            self.node.replace_all_uses_with(total.node, delete_user_cb=lambda user: user is not total.node)

    def _bias_map(self, affine: Affine) -> Tensor:
        """What the convolution makes of the constant input ``shift``, borders included: ``[1, out, ...]``."""
        a = bind(self.node)
        spatial = a["input"].meta["val"].shape[2:]
        constant_input = along(affine.shift, 1, len(spatial) + 2).expand(1, -1, *spatial)
        geometry = [value for name, value in a.items() if name not in ("input", "weight", "bias")]
        bias = None if self.bias is None else self.bias.double()
        return self.node.target(constant_input, self.weight.double(), bias, *geometry)  # type: ignore[operator]


def linear_operator(node: Node, axis: int | None, subject: str, side: str) -> LinearOperator:
    """The linear operator at ``node``, provided its weights are constants and its channels lie on ``axis``.

    Args:
        node: a call of one of :data:`LINEAR`.
        axis: where the map's channels lie; None for a map that is the same everywhere.
        subject: what the map is, for the reason of a refusal: ``"the batch norm"``.
        side: ``"the channels of {} lie on"`` or ``"{} mixes"``, for the same.
    """
    own = channel_axis(node)
    if axis is not None:
        require(axis == own, side + " axis {}, {} scales axis {}", node.name, own, subject, axis)
    a, module = bind(node), node.graph.owning_module
    weight, bias = constant(module, a["weight"]), constant(module, a["bias"])  # type: ignore[arg-type]
    require(weight is not None, "the weight of {} is not a constant", node.name)
    require(bias is not None or a["bias"] is None, "the bias of {} is not a constant", node.name)
    _require_small_copy(node, a["weight"], weight)  # type: ignore[arg-type]
    return LinearOperator(node, weight, bias)  # type: ignore[arg-type]


def _require_small_copy(node: Node, given: Node, weight: Tensor) -> None:
    readers = readers_of(node.graph.owning_module, given)  # type: ignore[arg-type]
    size, others = weight.numel() * weight.element_size(), len(readers) - 1
    reason = "the weight of {} has {} other users, a changed copy takes {} bytes; the limit is {}"
    require(not others or size <= MAX_COPY_BYTES, reason, node.name, others, size, MAX_COPY_BYTES)
