"""Linears that one linear can replace."""

from __future__ import annotations

from typing import ClassVar

from hycompile.passes.merge_linears.constant_matmul import constant_matmul_to_linear
from hycompile.passes.merge_linears.in_series import merge_linears_in_series
from hycompile.passes.merge_linears.sum_of_linears import merge_low_rank_update, merge_sum_of_linears
from hycompile.pipeline import RulePass
from hycompile.rewrite import Rule

RULES = (
    constant_matmul_to_linear,
    merge_linears_in_series,
    merge_sum_of_linears,
    merge_low_rank_update,
)


class MergeLinears(RulePass):
    """A linear of a linear where that is cheaper, sums of linears of one input, low-rank adapters."""

    name: ClassVar[str] = "merge-linears"
    rules: ClassVar[tuple[Rule, ...]] = RULES
