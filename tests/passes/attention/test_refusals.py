"""One case for every ``require``: the graph stays, and the message carries the values."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hycompile.passes.fuse_conv_attention import RECOVER
from hycompile.passes.fuse_conv_attention.batch_axes import heads_into_queries, merge_batch_axes
from hycompile.passes.fuse_conv_attention.broadcasting import broadcast_left, broadcast_right, fold_temperature
from hycompile.passes.fuse_conv_attention.einsum import einsum_to_matmul
from hycompile.passes.fuse_conv_attention.fold_biases import drop_key_bias, move_value_bias
from hycompile.passes.fuse_conv_attention.fold_scale import fold_scale
from hycompile.passes.fuse_conv_attention.linear_attention import multiply_right_first
from hycompile.passes.fuse_conv_attention.parts import take_parts
from hycompile.passes.fuse_conv_attention.recover_attention import recover_attention, recover_transposed_attention
from hycompile.passes.fuse_conv_attention.split_projection import split_projection
from hycompile.passes.fuse_conv_attention.talking_heads import fold_into_talking_head
from hycompile.rewrite import Rule, apply
from tests.passes.attention.models import Attention, heads, joined, multi_query, three
from tests.support import captured

Result = Tensor | tuple[Tensor, ...]
_INF = float("inf")


def attention(m: Attention, x: Tensor, **arguments: object) -> Tensor:
    return F.scaled_dot_product_attention(*three(m, x), **arguments)  # type: ignore[arg-type]


def written(change: Callable[[Attention, Tensor], Tensor]) -> Callable[[Attention, Tensor], Tensor]:
    """Products around a softmax, with a change to the logits."""

    def attend(m: Attention, x: Tensor) -> Tensor:
        q, k, v = three(m, x)
        return m.out(joined(change(m, q @ k.mT).softmax(-1) @ v))

    return attend


def parts(cut: Callable[[Attention, Tensor], tuple[Tensor, ...]]) -> Callable[[Attention, Tensor], Result]:
    return lambda m, x: cut(m, x)


def _shown(m: Attention, x: Tensor) -> Result:
    q, k, v = three(m, x)
    weights = (q @ k.mT).softmax(-1)
    return weights @ v, weights.relu()


def _shown_logits(m: Attention, x: Tensor) -> Result:
    q, k, v = three(m, x)
    logits = q @ k.mT
    return (logits * 2).softmax(-1) @ v, logits.relu()


def _runtime_mask(m: Attention, x: Tensor) -> Tensor:
    q, k, v = three(m, x)
    return (q @ k.mT + x.mean(-1).exp().log()[:, None, None, :]).softmax(-1) @ v


def _along_queries(m: Attention, x: Tensor) -> Tensor:
    q, k, v = three(m, x)
    return (q @ k.mT).softmax(-1).mT @ v


def _along_queries_turned(m: Attention, x: Tensor) -> Tensor:
    q, k, v = three(m, x)
    return v.mT @ (q @ k.mT).softmax(-1)


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


def _five_axes_masked(m: Attention, x: Tensor) -> Tensor:
    q, k, v = (t[None] for t in three(m, x))
    return F.scaled_dot_product_attention(q, k, v, m.bias)


def _five_axes_shared(m: Attention, x: Tensor) -> Tensor:
    q, k, v = (t[:, None] for t in three(m, x))
    return F.scaled_dot_product_attention(q, k[:1], v[:1])


def _multi_query_masked(m: Attention, x: Tensor) -> Tensor:
    q, k, v = three(m, x)
    return F.scaled_dot_product_attention(q, k[:, :1], v[:, :1], m.bias)


def _mixing_wide(m: Attention, x: Tensor) -> Tensor:
    q, k, v = three(m, x)
    return F.conv2d(q @ k.mT, m.mix.weight.expand(2, 2, 3, 3), None, 1, 1).softmax(-1) @ v


def _mixing_runtime_bias(m: Attention, x: Tensor) -> Tensor:
    q, k, v = three(m, x)
    return m.mix(q @ k.mT + x.mean()).softmax(-1) @ v


def _mixing_nothing(m: Attention, x: Tensor) -> Tensor:
    q, k, _ = three(m, x)
    return m.mix((q @ k.mT).relu()).softmax(-1)


def _overlap(m: Attention, x: Tensor) -> tuple[Tensor, ...]:
    y = m.qkv(x)
    return y[..., :16], y[..., 8:]


def _einsum(equation: str) -> Callable[[Attention, Tensor], Tensor]:
    return lambda m, x: torch.einsum(equation, *[x] * (equation.count(",") + 1))


CASES = [
    (einsum_to_matmul, "ellipsis", _einsum("...e,...e->..."), "does not name every axis"),
    (einsum_to_matmul, "one", _einsum("ble->bel"), "the einsum 'ble->bel' has 1 operands"),
    (einsum_to_matmul, "twice", lambda m, x: torch.einsum("bee,bes->bs", x[:, :, :5], x),
     "the einsum 'bee,bes->bs' names an axis twice"),
    (einsum_to_matmul, "product", _einsum("ble,ble->ble"), "the einsum 'ble,ble->ble' is no batched product"),
    (recover_attention, "users", _shown, "the softmax has 2 users, attention would not show it to the others"),
    (recover_attention, "shown_logits", _shown_logits, "its softmax is of aten.mul.Tensor"),
    (recover_attention, "nonlinear", written(lambda m, z: z.tanh()), "its softmax is of aten.tanh"),
    (recover_attention, "masked_row", written(lambda m, z: z + torch.tensor([[-_INF] * 5] * 5)),
     "the bias masks all keys in 5 of 5 rows"),
    (recover_attention, "runtime_mask", _runtime_mask,
     "and may be minus infinity along a whole row"),
    (recover_attention, "along_queries", _along_queries,
     "the softmax is over the other axis than the values are summed over"),
    (recover_transposed_attention, "along_queries", _along_queries_turned,
     "the softmax is over the other axis than the values are summed over"),
    (recover_attention, "heads_as_keys", lambda m, x: (three(m, x)[0] @ three(m, x)[1].mT).softmax(1) @ three(m, x)[2],
     "the softmax is over axis 1 of 4"),
    (recover_attention, "no_batch", lambda m, x: (m.q(x)[0] @ m.k(x)[0].mT).softmax(-1) @ m.v(x)[0],
     "a product of rank 2 has no batch of heads"),
    (recover_attention, "ranks", lambda m, x: (m.q(x) @ m.k(x).mT).softmax(-1) @ heads(m.v(x)),
     "queries, keys and values have different ranks"),
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
    (fold_scale, "no_weight", _no_weight, "the scale 0.5 stays: aten.relu relu has no weight for it"),
    (fold_scale, "runtime", _runtime_weights, "the weight of linear is not a constant"),
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
    (move_value_bias, "heads_apart", lambda m, x: F.linear(attention(m, x), m.out.weight[:, :4]),
     "axis 1 of the values is no channel of what follows"),
    (move_value_bias, "output_weight", lambda m, x: F.linear(joined(attention(m, x)), m.out.weight * x.mean()),
     "the weight of linear_3 is not a constant"),
    (merge_batch_axes, "mask", _five_axes_masked, "a mask of rank 5 would have to be merged too"),
    (merge_batch_axes, "differ", _five_axes_shared, "the batch axes [2, 1, 2] and [1, 1, 2] differ"),
    (heads_into_queries, "mask", _multi_query_masked, "a mask may differ from head to head"),
    (fold_into_talking_head, "wide", _mixing_wide, "a convolution with weight [2, 2, 3, 3] does more than mix heads"),
    (fold_into_talking_head, "bias", _mixing_runtime_bias, "the bias of the logits is computed at run time"),
    (fold_into_talking_head, "product", _mixing_nothing, "its softmax is of aten.relu"),
    (multiply_right_first, "cost", lambda m, x: (m.q(x).relu().mT @ m.k(x).relu()) @ m.v(x).mT,
     "as written it takes"),
    (broadcast_right, "shape", lambda m, x: x[:, :1].relu() + x[:, 1:2].expand(2, 5, 8),
     "the other operand is [2, 1, 8], the result [2, 5, 8]"),
    (broadcast_left, "shape", lambda m, x: x[:, 1:2].expand(2, 5, 8) - x[:, :1].relu(),
     "the other operand is [2, 1, 8], the result [2, 5, 8]"),
    (fold_temperature, "zero", lambda m, x: x / x.norm(dim=-1, keepdim=True) * torch.zeros(1, 1),
     "a temperature is zero"),
    (fold_temperature, "same_size", lambda m, x: x / (x + 9) * torch.ones(8), "is as large as what it divides"),
    (fold_temperature, "larger", lambda m, x: x / x.norm(dim=-1, keepdim=True) * torch.ones(8),
     "the temperature [8] would make the norm [2, 5, 1] larger"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "case", "attend", "reason"), CASES, ids=[f"{c[0].name}-{c[1]}" for c in CASES])
def test_refusal(rule: Rule, case: str, attend: Callable[[Attention, Tensor], Tensor], reason: str) -> None:
    program = captured(Attention(attend), torch.randn(2, 5, 8))
    before = program.text()
    report = apply(rule, program)
    assert report.hits == 0
    assert any(reason in refusal.reason for refusal in report.refusals), [r.reason for r in report.refusals]
    assert program.text() == before


def test_multi_query_heads_go_into_queries() -> None:
    program = captured(Attention(multi_query), torch.randn(2, 5, 8))
    assert apply(heads_into_queries, program).hits == 1


def test_split_of_a_dynamic_axis_stays() -> None:
    tokens = torch.export.Dim("tokens", min=4, max=8)
    halves = captured(
        Attention(lambda m, x: tuple(x.relu().split([x.shape[1] - 2, 2], 1))),
        torch.randn(2, 5, 8),
        dynamic_shapes=({1: tokens},),
    )
    report = take_parts(halves)
    assert report.hits == 0
    assert "it splits an axis of dynamic size" in report.refusals[0].reason


def test_another_softmax_is_left_alone() -> None:
    """A softmax that no product follows is no attention: nothing is recovered, nothing refused."""
    program = captured(Attention(lambda m, x: m.q(x).softmax(-1)), torch.randn(2, 5, 8))
    for rule in RECOVER:
        report = apply(rule, program)
        assert (report.hits, report.refusals) == (0, [])
