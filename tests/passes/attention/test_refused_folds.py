"""One case for every ``require`` of the folds into projections: the graph stays, the message carries the values."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hycompile.passes.fuse_conv_attention.fold_biases import drop_key_bias, move_value_bias
from hycompile.passes.fuse_conv_attention.fold_scale import fold_scale
from hycompile.passes.fuse_conv_attention.split_projection import split_projection
from hycompile.rewrite import Rule
from tests.passes.attention.models import Attention, heads, joined, three
from tests.passes.attention.refusing import require_refusal
from tests.support import captured

Result = Tensor | tuple[Tensor, ...]


def attention(m: Attention, x: Tensor, **arguments: object) -> Tensor:
    return F.scaled_dot_product_attention(*three(m, x), **arguments)  # type: ignore[arg-type]


def parts(cut: Callable[[Attention, Tensor], tuple[Tensor, ...]]) -> Callable[[Attention, Tensor], Result]:
    return lambda m, x: cut(m, x)


def _key_shared(m: Attention, x: Tensor) -> Result:
    k = m.k(x)
    return F.scaled_dot_product_attention(heads(m.q(x)), heads(k), heads(m.v(x))), k.relu()


def _value_shared(m: Attention, x: Tensor) -> Result:
    v = m.v(x)
    return m.out(joined(F.scaled_dot_product_attention(heads(m.q(x)), heads(m.k(x)), heads(v)))), v.relu()


def _channel_keys(m: Attention, x: Tensor) -> Tensor:
    q, k, v = (m.q(x).mT, m.k(x).mT, m.v(x).mT)
    return m.out(F.scaled_dot_product_attention(q, k, v).mT)


def _no_weight(m: Attention, x: Tensor) -> Tensor:
    q, k, v = three(m, x)
    return F.scaled_dot_product_attention(q.relu(), k.relu(), v)


def _runtime_weights(m: Attention, x: Tensor) -> Tensor:
    k = heads(F.linear(x, m.k.weight * x.mean(), m.k.bias))
    return F.scaled_dot_product_attention(heads(m.q(x)).relu(), k, heads(m.v(x)))


def _overlap(m: Attention, x: Tensor) -> tuple[Tensor, ...]:
    y = m.qkv(x)
    return y[..., :16], y[..., 8:]


def _halves(y: Tensor) -> tuple[Tensor, ...]:
    """Parts of channels-first channels that attention takes."""
    return y[:, :4].softmax(-1), y[:, 4:].softmax(-1)


def _all_shared(m: Attention, x: Tensor) -> Result:
    y = m.q(x)
    return F.scaled_dot_product_attention(heads(y), heads(y), heads(m.v(x)))


def _grouped_queries(m: Attention, x: Tensor) -> Tensor:
    q, k, v = three(m, x)
    return m.out(joined(F.scaled_dot_product_attention(q, k, v, enable_gqa=True)))


CASES = [
    (split_projection, "whole", parts(lambda m, x: ((y := m.qkv(x))[..., :8], y.relu())),
     "aten.relu needs the whole projection"),
    (split_projection, "overlap", parts(_overlap), "the parts of linear overlap"),
    (split_projection, "tokens", parts(lambda m, x: (m.qkv(x)[:, :2],)),
     "axis 1 that slice_1 cuts is not made of channels"),
    (split_projection, "step", parts(lambda m, x: (m.qkv(x)[..., ::2],)), "slice_1 takes every 2th channel"),
    (split_projection, "runtime", parts(lambda m, x: (F.linear(x, m.qkv.weight * x.mean())[..., :8],)),
     "the weight of linear is not a constant"),
    (split_projection, "joined", parts(lambda m, x: (m.qkv(x).mT.reshape(2, -1)[:, :8],)),
     "axis 1 that slice_1 cuts is not made of channels"),
    (split_projection, "joins", parts(lambda m, x: (m.qkv(x).reshape(16, 15)[:, :2],)),
     "view joins channels with other axes"),
    (split_projection, "groups", parts(lambda m, x: _halves(F.conv1d(x.mT, m.grouped, groups=2))),
     "conv1d has 2 groups"),
    (split_projection, "taps", parts(lambda m, x: _halves(F.conv1d(x.mT, m.wide, padding=1))),
     "conv1d has 3 taps: each part would gather them again"),
    (split_projection, "no_batch", parts(lambda m, x: (m.conv_qkv(x[0].mT[:, :, None])[:4].softmax(0),)),
     "conv2d works without a batch axis"),
    (split_projection, "gate", parts(lambda m, x: (m.out((y := m.qkv(x))[..., :8] * y[..., 8:16].sigmoid()
     * y[..., 16:].tanh()),)), "no attention takes a part of linear"),
    (fold_scale, "no_weight", _no_weight, "the scale 0.5 stays: aten.relu relu has no weight for it"),
    (fold_scale, "runtime", _runtime_weights, "the weight of linear is not a constant"),
    (fold_scale, "users", _all_shared, "the scale 0.5 stays: linear has 2 users"),
    (drop_key_bias, "runtime", _runtime_weights, "the weight of linear is not a constant"),
    (drop_key_bias, "users", _key_shared, "linear has 2 users, the others need it as it is"),
    (drop_key_bias, "along_keys", _channel_keys, "the bias of linear_1 differs from key to key"),
    (move_value_bias, "users", _value_shared, "linear has 2 users, the others need it as it is"),
    (move_value_bias, "along_keys", _channel_keys, "the bias of linear_2 differs from key to key"),
    (move_value_bias, "dropout", lambda m, x: m.out(joined(attention(m, x, dropout_p=0.5))),
     "dropout of 0.5 keeps the rows from summing to one"),
    (move_value_bias, "masked", lambda m, x: m.out(joined(attention(m, x, attn_mask=x[:, None, :, :5] > 0))),
     "a row may sum to zero: mask gt is computed at run time, and may be False along a whole row"),
    (move_value_bias, "activation", lambda m, x: m.out(joined(attention(m, x)).relu()),
     "aten.relu follows the attention, no projection"),
    (move_value_bias, "two_uses", lambda m, x: (m.out(joined(y := attention(m, x))), y),
     "has 2 users, the others need it with the bias"),
    (move_value_bias, "heads_apart", lambda m, x: F.linear(attention(m, x), torch.tensor([[1.0] * 4] * 3)),
     "axis 1 of the values is no channel of what follows"),
    (move_value_bias, "output_weight", lambda m, x: F.linear(joined(attention(m, x)), m.out.weight * x.mean()),
     "the weight of linear_3 is not a constant"),
    (move_value_bias, "runtime_bias", lambda m, x: F.linear(joined(attention(m, x)), m.out.weight, x.mean((0, 1))),
     "the bias of linear_3 is not a constant"),
    (move_value_bias, "padded", lambda m, x: F.conv1d(joined(attention(m, x)).mT, m.wide, padding=1),
     "conv1d is padded"),
    (move_value_bias, "groups", _grouped_queries, "groups of queries share values"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "case", "attend", "reason"), CASES, ids=[f"{c[0].name}-{c[1]}" for c in CASES])
def test_refusal(rule: Rule, case: str, attend: Callable[[Attention, Tensor], Result], reason: str) -> None:
    require_refusal(rule, captured(Attention(attend), torch.randn(2, 5, 8)), reason)
