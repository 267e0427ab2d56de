"""Constant multiplications and additions, per channel or the same everywhere, into the linear operators around them."""

from __future__ import annotations

from typing import ClassVar

from hycompile.passes.fold_scale.identity import drop_identity_map
from hycompile.passes.fold_scale.into_consumers import fold_scale_into_consumers
from hycompile.passes.fold_scale.into_producer import fold_scale_into_producer
from hycompile.pipeline import RulePass
from hycompile.rewrite import Rule

RULES = (drop_identity_map, fold_scale_into_producer, fold_scale_into_consumers)


class FoldScale(RulePass):
    """Layer scales, muP multipliers and constant terms go into what comes before, else into all that comes after."""

    name: ClassVar[str] = "fold-scale"
    rules: ClassVar[tuple[Rule, ...]] = RULES
