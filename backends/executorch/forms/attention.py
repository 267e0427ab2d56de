"""Attention in operators that XNNPACK's delegate takes whole.

Left alone, ``scaled_dot_product_attention`` becomes a safe softmax: a comparison with minus infinity and a selection,
all on portable kernels. Where no row can be masked as a whole the selection never acts, and a plain softmax is exact.
"""

from __future__ import annotations

import math

from torch import Tensor
from torch.fx import GraphModule

from hycompile.backends.executorch.forms.sizes import inferred, require_fixed
from hycompile.builder import Value, call
from hycompile.masks import additive, masked_row_in
from hycompile.pattern import Any, Arg, Call
from hycompile.program import constant
from hycompile.rewrite import require, rule


@rule(
    Call(
        "aten.scaled_dot_product_attention",
        name="attention",
        query=Any("q"),
        key=Any("k"),
        value=Any("v"),
        dropout_p=0.0,
        is_causal=False,
        enable_gqa=False,
        scale=Arg("scale"),
    ),
    source="definition of scaled_dot_product_attention; softmax(x + c) is safe where a row keeps a finite entry",
)
def expand_attention(attention: Value, q: Value, k: Value, v: Value, scale: float | None) -> Value:
    """attention(q, k, v, mask) = softmax(s q k^T + mask) v: two batched matrix products of rank 3 around a softmax.

    Given: attention [..., n, d] x [..., m, d] x [..., m, e], without mask or with a constant one.
    Result: the products as ``bmm`` over all leading axes at once; a scale of 1 costs nothing.

    Refused for dynamic lengths, for a mask computed at run time, and for one that masks a whole row: there the safe
    softmax gives 0 where the plain one gives NaN.
    """
    *lead, n, d = q.shape
    m, e = k.shape[-2], v.shape[-1]
    require_fixed((n, d, m, e))
    same = list(k.shape[:-2]) == lead == list(v.shape[:-2])
    require(same, "query, key and value have leading sizes {}, {}, {}", lead, k.shape[:-2], v.shape[:-2])
    whole, mask = inferred((*lead, n, m)), _mask(attention)
    batch = -1 if -1 in whole else math.prod(lead)
    factor = d**-0.5 if scale is None else scale
    scaled = q if factor == 1 else call("aten.mul.Tensor", q, factor)
    queries = call("aten.reshape", scaled, [batch, n, d])
    keys = call("aten.reshape", call("aten.transpose.int", k, -2, -1), [batch, d, m])
    logits = call("aten.bmm", queries, keys)
    if mask is not None:
        logits = _add(logits, mask, whole)
    values = call("aten.reshape", v, [batch, m, e])
    mixed = call("aten.bmm", call("aten.softmax.int", logits, -1), values)
    return call("aten.reshape", mixed, [*whole[:-1], e])


def _mask(attention: Value) -> Tensor | None:
    """The constant mask as an additive one without infinities; raises a refusal for any other."""
    given = attention["attn_mask"]
    if given is None:
        return None
    module: GraphModule = attention.node.graph.owning_module  # type: ignore[assignment]
    mask = constant(module, given.node)
    require(mask is not None, "its mask {} is computed at run time", given.node.name)
    assert mask is not None
    reason = masked_row_in(mask, given.node.name)
    require(reason is None, "{}", reason)
    return additive(mask)


def _add(logits: Value, mask: Tensor, whole: list[int]) -> Value:
    """Logits ``[batch, n, m]`` plus a mask that broadcasts to ``whole``; on three axes where its batches are theirs."""
    mask = mask.reshape(*[1] * (len(whole) - mask.dim()), *mask.shape)
    batches = math.prod(mask.shape[:-2])
    if batches == 1 or list(mask.shape[:-2]) == whole[:-2]:
        return call("aten.add.Tensor", logits, mask.reshape(batches, *mask.shape[-2:]))
    added = call("aten.add.Tensor", call("aten.reshape", logits, whole), mask)
    batch = -1 if -1 in whole else math.prod(whole[:-2])
    return call("aten.reshape", added, [batch, *whole[-2:]])
