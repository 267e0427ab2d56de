"""Attention, however it was written, becomes one canonical form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from hycompile.passes.fuse_conv_attention.batch_axes import heads_into_queries, merge_batch_axes
from hycompile.passes.fuse_conv_attention.broadcasting import broadcast_left, broadcast_right, fold_temperature
from hycompile.passes.fuse_conv_attention.einsum import einsum_to_matmul
from hycompile.passes.fuse_conv_attention.fold_biases import drop_key_bias, move_value_bias
from hycompile.passes.fuse_conv_attention.fold_scale import fold_scale
from hycompile.passes.fuse_conv_attention.linear_attention import multiply_right_first, unpad_linear_attention
from hycompile.passes.fuse_conv_attention.moves import shorten_moves
from hycompile.passes.fuse_conv_attention.parts import select_to_slice, take_parts
from hycompile.passes.fuse_conv_attention.recover_attention import (
    bmm_to_matmul,
    recover_attention,
    recover_transposed_attention,
)
from hycompile.passes.fuse_conv_attention.split_projection import split_projection
from hycompile.passes.fuse_conv_attention.survey import name_other_attention
from hycompile.passes.fuse_conv_attention.talking_heads import fold_into_talking_head
from hycompile.pipeline import Check, RulePass
from hycompile.program import Program
from hycompile.reports import RuleReport
from hycompile.rewrite import Rule, apply

RECOVER = (
    bmm_to_matmul,
    einsum_to_matmul,
    recover_attention,
    recover_transposed_attention,
)
OTHER_FORMS = (
    unpad_linear_attention,
    multiply_right_first,
    fold_into_talking_head,
    broadcast_right,
    broadcast_left,
    fold_temperature,
)
# Batch axes are merged last: a bias cannot be followed through an axis that joins heads and batch.
FOLDS = (shorten_moves, fold_scale, drop_key_bias, move_value_bias, merge_batch_axes, heads_into_queries)


@dataclass(frozen=True)
class FuseConvAttention(RulePass):
    """Every attention becomes one ``scaled_dot_product_attention`` over [batch, heads, tokens, channels], with scale 1.

    The scale goes into a weight, the bias of the keys goes away, that of the values into the output projection; each
    stays where a report says why. Attention over channels (EdgeNeXt) is the same over other axes, on normalised
    queries and keys.

    What is no such attention has a form of its own, and is named: linear attention (EfficientViT-B) is products in
    their cheapest order; separable attention (MobileViTv2) a softmax, a sum and a broadcast product; talking heads
    (EfficientFormerV2) keep their softmax between two convolutions over heads, the first of which takes scale and bias;
    additive attention (SwiftFormer) has no softmax, and only loses its copies.

    ``qkv=split`` cuts a projection of queries, keys and values into one each; ``qkv=keep`` leaves it whole, and takes
    parts by slice and reshape.
    """

    name: ClassVar[str] = "fuse-conv-attention"
    rules: ClassVar[tuple[Rule, ...]] = (*RECOVER, *OTHER_FORMS, split_projection, *FOLDS)
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {"qkv": ("split", "keep")}
    qkv: str = "split"

    def __post_init__(self) -> None:
        if self.qkv not in ("split", "keep"):
            raise ValueError(f"qkv is {self.qkv!r}; it can be split or keep")

    def chosen(self) -> tuple[Rule, ...]:
        return tuple(rule for rule in self.rules if self.qkv == "split" or rule is not split_projection)

    def run(self, program: Program, check: Check) -> list[RuleReport]:
        parts = take_parts(program)
        if parts.hits:
            check(program, parts)
        found = super().run(program, check)
        selects = apply(select_to_slice, program)
        if selects.hits:
            check(program, selects)
        known = {refusal.node for report in found for refusal in report.refusals}
        return [parts, *found, selects, name_other_attention(program, known)]
