"""Attention over more batch axes than runtimes know, or fewer heads than queries have."""

from __future__ import annotations

import math
from typing import Any as Anything

from torch.fx import GraphModule

from hycompile.builder import Value, call
from hycompile.passes.fuse_conv_attention.attention_call import ATTENTION, again, scale_of
from hycompile.passes.fuse_conv_attention.layout import static
from hycompile.pattern import Any, Call, Captures
from hycompile.rewrite import require, rule


class _Attention(Call):
    """An attention whose axes are not yet canonical: more than four, or fewer heads of keys than of queries."""

    def __init__(self, *, ranks: range, shared_heads: bool) -> None:
        super().__init__(ATTENTION, name="attention", query=Any("query"), key=Any("key"), value=Any("value"))
        self.ranks, self.shared_heads = ranks, shared_heads

    def match(self, module: GraphModule, value: object, captures: Captures) -> Captures | None:
        found = super().match(module, value, captures)
        if found is None:
            return None
        query, key = found["query"].shape, found["key"].shape
        shared = len(key) > 2 and key[-3] == 1 and query[-3] != 1
        return found if len(query) in self.ranks and shared == self.shared_heads else None


@rule(
    _Attention(ranks=range(5, 9), shared_heads=False),
    source="attention is one independent product for each batch index",
)
def merge_batch_axes(attention: Value, query: Value, key: Value, value: Value) -> Value:
    """SDPA over [A, .., H, L, E] = SDPA over [A .., H, L, E], reshaped back.

    Given: attention of rank five or more, such as Hiera's over mask units.
    Result: attention of rank four between reshapes, which join the moves around them.

    Refused with a mask, where axes of size one would have to be repeated, and where sizes are dynamic.
    """
    require(attention["attn_mask"] is None, "a mask of rank {} would have to be merged too", len(query.shape))
    same = query.shape[:-2] == key.shape[:-2] == value.shape[:-2]
    require(same, "the batch axes {} and {} differ", list(query.shape[:-2]), list(key.shape[:-2]))
    shapes = [*query.shape, *key.shape, *value.shape]
    require(static(shapes), "the sizes {} are dynamic", list(query.shape))
    merged = {name: _merged(of) for name, of in (("query", query), ("key", key), ("value", value))}
    return call("aten.reshape", again(attention, **merged, scale=scale_of(attention)), list(attention.shape))


def _merged(value: Value) -> Value:
    shape: Anything = value.shape
    return call("aten.reshape", value, [math.prod(shape[:-3]), *shape[-3:]])


@rule(_Attention(ranks=range(4, 5), shared_heads=True), source="Shazeer 2019 (multi-query attention), section 3")
def heads_into_queries(attention: Value, query: Value, key: Value, value: Value) -> Value:
    """SDPA(Q [B, H, L, E], K [B, 1, S, E], V) = SDPA(Q [B, 1, H L, E], K, V) [B, H, L, Ev].

    Given: queries of several heads that share keys and values, as in MobileNetV4's hybrids.
    Result: one attention with a head's queries behind another's; keys and values need not be repeated.

    Refused with a mask, which may differ from head to head, under causal masking, and where sizes are dynamic.
    """
    require(attention["attn_mask"] is None and not attention["is_causal"], "a mask may differ from head to head")
    require(value.shape[1] == 1, "keys are shared, but there are {} heads of values", value.shape[1])
    require(static(attention.shape), "the sizes {} are dynamic", list(attention.shape))
    batch, heads, queries, size = query.shape
    together = call("aten.reshape", query, [batch, 1, heads * queries, size])
    result = again(attention, query=together, scale=scale_of(attention), enable_gqa=False)
    return call("aten.reshape", result, list(attention.shape))
