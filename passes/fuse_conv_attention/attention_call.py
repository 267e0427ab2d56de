"""The canonical attention as a pattern, and written again with other arguments."""

from __future__ import annotations

import math
from typing import Any

from hycompile.builder import Value, call
from hycompile.rewrite import require

ATTENTION = "aten.scaled_dot_product_attention"


def scale_of(attention: Value) -> float:
    """Its scale; by default ``1 / sqrt(E)`` of the queries ``[.., L, E]``."""
    scale, size = attention["scale"], attention["query"].shape[-1]
    if scale is not None:
        return scale
    require(isinstance(size, int), "the size {} of a head is dynamic", size)
    return 1 / math.sqrt(size)


def again(attention: Value, **changed: Any) -> Value:
    """The same attention with other arguments, by schema name."""
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
    positional = [changed.get(name, attention[name]) for name in names]
    keywords = {name: changed.get(name, attention[name]) for name in ("scale", "enable_gqa")}
    return call(ATTENTION, *positional, **keywords)
