"""Batch norms into the linear operators around them."""

from __future__ import annotations

from typing import ClassVar

from hycompile.passes.fold_batch_norm.into_consumers import fold_batch_norm_into_consumers
from hycompile.passes.fold_batch_norm.into_producer import fold_batch_norm_into_producer
from hycompile.passes.fold_batch_norm.standing_alone import batch_norm_to_depthwise
from hycompile.pipeline import RulePass
from hycompile.rewrite import Rule

RULES = (fold_batch_norm_into_producer, fold_batch_norm_into_consumers, batch_norm_to_depthwise)


class FoldBatchNorm(RulePass):
    """A batch norm goes into what comes before it, else into all that comes after it, else becomes a depthwise conv."""

    name: ClassVar[str] = "fold-batch-norm"
    rules: ClassVar[tuple[Rule, ...]] = RULES
