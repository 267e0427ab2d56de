"""Parallel branches of one sum: convolutions of any kernels and groups, average poolings, and the input itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.fx import Node
from torch.fx.experimental.symbolic_shapes import statically_known_true

from hycompile.builder import Value, call
from hycompile.passes.affine import CONVOLUTIONS
from hycompile.passes.merge_convolutions.branch import POOLS, Branch, branch_of, identity, is_linear, keeps_size
from hycompile.passes.merge_convolutions.cost import require_no_growth
from hycompile.passes.merge_convolutions.geometry import Geometry, regrouped
from hycompile.passes.merge_convolutions.sums import Pair, SumOfTwo, is_source_of, reads_same, with_rest
from hycompile.rewrite import Refused, require, rule
from hycompile.schema import is_call


class _Branches(SumOfTwo):
    def mergeable(self, pairs: list[Pair]) -> bool:
        try:
            merger(pairs)
        except Refused:
            return False
        return True


class _Convolutions(_Branches):
    def accepts(self, one: Node, other: Node) -> bool:
        return reads_same(one, other) and not is_call(one, *POOLS) and not is_call(other, *POOLS)


class _ConvolutionAndInput(_Branches):
    def accepts(self, one: Node, other: Node) -> bool:
        return is_source_of(one, other) and is_call(other, *CONVOLUTIONS)


class _PoolingAndAnother(_Branches):
    def accepts(self, one: Node, other: Node) -> bool:
        return is_call(other, *POOLS) and (is_source_of(one, other) or reads_same(one, other))


@dataclass(frozen=True)
class Merger:
    """Two branches that may become one convolution."""

    pair: Pair
    branches: tuple[Branch, Branch]
    geometry: Geometry
    groups: int

    def build(self) -> Value:
        """The convolution, plus what else the sum adds."""
        one, other = self.branches
        weight = self.pair.one.factor * self._weight(one) + self.pair.other.factor * self._weight(other)
        biases = [
            term.factor * branch.bias.double()
            for term, branch in zip((self.pair.one, self.pair.other), self.branches, strict=True)
            if branch.bias is not None
        ]
        operator = f"aten.conv{one.axes}d"
        bias = sum(biases[1:], biases[0]) if biases else None
        merged = call(operator, Value(one.source), weight, bias, *self.geometry.arguments(), self.groups)
        return with_rest(merged, self.pair.rest)

    def _weight(self, branch: Branch) -> Tensor:
        grouped = regrouped(branch.weight.double(), branch.groups, self.groups)
        return branch.geometry.embedded(grouped, self.geometry)


def merger(pairs: Sequence[Pair]) -> Merger:
    """The first of ``pairs`` that may be merged; if none may, refused for the reason of the first."""
    refusals: list[Refused] = []
    for pair in pairs:
        try:
            return _merger(pair)
        except Refused as refusal:
            refusals.append(refusal)
    raise refusals[0]


@rule(_Convolutions(), source="Ding et al. 2021 (RepVGG), section 3.3, generalised; R4 and R5 of the rule catalogue")
def merge_parallel_convolutions(pairs: list[Pair]) -> Value:
    """(W1 x + b1) + (W2 x + b2) = W' x + b':  W' = W1 + W2, centre on centre, in gcd(g1, g2) groups;  b' = b1 + b2.

    Given: two convolutions of the same input among the terms of a sum or difference, with any kernels, paddings and
    dilations, of any groups of contiguous channels; a batch norm alone counts as one of 1x1. Scalar factors are theirs.
    Result: one convolution. Kernels are padded with zeros so that tap stays on tap (Ding's 1x1 in the middle of 3x3),
    groups are embedded block-diagonally. The other terms of the sum stay. Repeated, MobileOne's blocks, RepViT's token
    mixers and FMViT's multi-group convolutions become one convolution each.

    Refused when the strides differ, when no symmetric padding gives the merged kernel the same output size, when a
    branch has another user or weights that are not constant, and when one convolution takes more multiply-accumulates
    than the two (dense 1x1 beside depthwise 3x3).
    """
    return merger(pairs).build()


@rule(
    _ConvolutionAndInput(), source="Ding et al. 2021 (RepVGG), section 3.3: identity branch; R4 of the rule catalogue"
)
def merge_identity_into_convolution(pairs: list[Pair]) -> Value:
    """x + (W x + b) = W' x + b:  W'[c, c, centre] = W[c, c, centre] + 1.

    Given: a sum or difference of a convolution and its own input, as in EfficientViT's and SHViT's residual depthwise
    convolutions, of any groups. Scalar factors are theirs.
    Result: one convolution with the same multiply-accumulates; the addition is gone.

    Refused when the output has another size than the input (stride, padding, channels), when the convolution has
    another user or weights that are not constant, and when its kernel would grow to reach the centre.
    """
    return merger(pairs).build()


@rule(_PoolingAndAnother(), source="Yu et al. 2022 (PoolFormer), equation 4, as a kernel; R9 of the rule catalogue")
def merge_pooling_mixer(pairs: list[Pair]) -> Value:
    """x + g (avgpool_k(x) - x) = W x depthwise:  W = g / k^2 at every tap, 1 - g more at the centre.

    Given: an average pooling and, in the same sum, its input, a convolution or another pooling of its input.
    Result: one convolution, depthwise beside the input itself. Taken pair by pair, ``avgpool(x) - x`` is the core: it
    becomes 1 / k^2 everywhere, 1 less at the centre; a scale g goes into its weights by the rule for scales.

    Refused when the pooling leaves padding out of its average (``count_include_pad=False``, EfficientFormer): it is
    then a convolution times a border map k^2 / count, and ``M * W x - x`` has one operator more than it saves. Refused
    too when its last windows are partial (``ceil_mode``), and for the reasons parallel convolutions are.
    """
    return merger(pairs).build()


def _merger(pair: Pair) -> Merger:
    module, nodes = pair.total.graph.owning_module, (pair.one.value, pair.other.value)
    names = f"{nodes[0].name} and {nodes[1].name}"
    shapes = [list(node.meta["val"].shape) for node in nodes]
    same = all(statically_known_true(a == b) for a, b in zip(*shapes, strict=True))
    require(same, "{} have the shapes {} and {}", names, *shapes)
    other = branch_of(module, nodes[1])  # type: ignore[arg-type]
    own = is_linear(nodes[0]) and nodes[0] is not other.source
    one = branch_of(module, nodes[0]) if own else identity(nodes[0], other.axes)  # type: ignore[arg-type]
    for branch in (one, other):
        users = len(branch.node.users)
        require(
            users == 1 or branch.node is branch.source,
            "{} has {} users, the others need it by itself",
            branch.node.name,
            users,
        )
    strides = one.geometry.stride, other.geometry.stride
    require(strides[0] == strides[1], "{} have the strides {} and {}", names, *strides)
    geometry, groups = one.geometry.joined(other.geometry), math.gcd(one.groups, other.groups)
    require(
        keeps_size(geometry, other.source, other.node),
        "{} read {} taps from {} together, which no symmetric padding gives the size {}",
        names,
        geometry.taps,
        geometry.first,
        shapes[0],
    )
    merged = other.weight.shape[0] * (other.inputs // groups) * math.prod(geometry.taps)
    require_no_growth(merged, one.macs + other.macs, names)
    return Merger(pair, (one, other), geometry, groups)
