"""One case for every ``require`` where attention is recovered: the graph stays, the message carries the values."""

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
from hycompile.passes.fuse_conv_attention.linear_attention import multiply_right_first, unpad_linear_attention
from hycompile.passes.fuse_conv_attention.recover_attention import recover_attention, recover_transposed_attention
from hycompile.passes.fuse_conv_attention.talking_heads import fold_into_talking_head
from hycompile.rewrite import Rule, apply
from tests.passes.attention.models import Attention, heads, joined, multi_query, three
from tests.passes.attention.refusing import require_refusal
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
    return F.conv2d(q @ k.mT, torch.tensor([[[[0.1] * 3] * 3] * 2] * 2), None, 1, 1).softmax(-1) @ v


def _mixing_runtime_bias(m: Attention, x: Tensor) -> Tensor:
    q, k, v = three(m, x)
    return m.mix(q @ k.mT + x.mean()).softmax(-1) @ v


def _mixing_nothing(m: Attention, x: Tensor) -> Tensor:
    q, k, _ = three(m, x)
    return m.mix((q @ k.mT).relu()).softmax(-1)


def _double_softmax(m: Attention, x: Tensor) -> Tensor:
    q, k, v = three(m, x)
    return (q @ k.mT).softmax(-1, dtype=torch.float64) @ v.double()


def _multi_query_values(m: Attention, x: Tensor) -> Tensor:
    q, k, v = three(m, x)
    return F.scaled_dot_product_attention(q, k[:, :1], v)


def _parts_of_tokens(m: Attention, x: Tensor) -> Tensor:
    q, k, v = three(m, x)
    both = q.relu() @ (k.relu().mT @ F.pad(v, (0, 1), value=1.0))
    return both[:, :, :-1] / (both[:, :, -1:] + 1e-5)


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
    (recover_attention, "type", _double_softmax, "the softmax changes the type to torch.float64"),
    (recover_attention, "permuted", lambda m, x: (three(m, x)[0] @ three(m, x)[1].mT).softmax(-1).permute(1, 0, 3, 2)
     @ three(m, x)[2], "the softmax is permuted by [1, 0, 3, 2]"),
    (recover_attention, "batch", lambda m, x: (three(m, x)[0][:1] @ three(m, x)[1].mT).softmax(-1) @ three(m, x)[2],
     "differ"),
    (recover_attention, "bias_rank", lambda m, x: (three(m, x)[0] @ three(m, x)[1].mT + m.bias[None, None])
     .softmax(-1) @ three(m, x)[2], "the bias has rank 5, the queries 4"),
    (merge_batch_axes, "mask", _five_axes_masked, "a mask of rank 5 would have to be merged too"),
    (merge_batch_axes, "differ", _five_axes_shared, "the batch axes [2, 1, 2] and [1, 1, 2] differ"),
    (heads_into_queries, "mask", _multi_query_masked, "a mask may differ from head to head"),
    (heads_into_queries, "values", _multi_query_values, "keys are shared, but there are 2 heads of values"),
    (fold_into_talking_head, "wide", _mixing_wide, "a convolution with weight [2, 2, 3, 3] does more than mix heads"),
    (fold_into_talking_head, "bias", _mixing_runtime_bias, "the bias of the logits is computed at run time"),
    (fold_into_talking_head, "product", _mixing_nothing, "its softmax is of aten.relu"),
    (unpad_linear_attention, "axis", _parts_of_tokens, "the parts are cut from axis 2 of 4"),
    (multiply_right_first, "cost", lambda m, x: (m.q(x) @ m.k(x).mT) @ m.v(x),
     "as written it takes 800 multiplications, the other way 1280"),
    (broadcast_right, "shape", lambda m, x: x[:, :1].relu() + x[:, 1:2].expand(2, 5, 8),
     "the other operand is [2, 1, 8], the result [2, 5, 8]"),
    (broadcast_left, "shape", lambda m, x: x[:, 1:2].expand(2, 5, 8) - x[:, :1].relu(),
     "the other operand is [2, 1, 8], the result [2, 5, 8]"),
    (fold_temperature, "zero", lambda m, x: x / x.norm(dim=-1, keepdim=True) * torch.tensor([[0.0]]),
     "a temperature is zero"),
    (fold_temperature, "same_size", lambda m, x: x / (x + 9) * torch.tensor([1.0] * 8),
     "is as large as what it divides"),
    (fold_temperature, "larger", lambda m, x: x / x.norm(dim=-1, keepdim=True) * torch.tensor([1.0] * 8),
     "the temperature [8] would make the norm [2, 5, 1] larger"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "case", "attend", "reason"), CASES, ids=[f"{c[0].name}-{c[1]}" for c in CASES])
def test_refusal(rule: Rule, case: str, attend: Callable[[Attention, Tensor], Result], reason: str) -> None:
    require_refusal(rule, captured(Attention(attend), torch.randn(2, 5, 8)), reason)


def test_multi_query_heads_go_into_queries() -> None:
    program = captured(Attention(multi_query), torch.randn(2, 5, 8))
    assert apply(heads_into_queries, program).hits == 1


def test_another_softmax_is_left_alone() -> None:
    """A softmax that no product follows is no attention: nothing is recovered, nothing refused."""
    program = captured(Attention(lambda m, x: m.q(x).softmax(-1)), torch.randn(2, 5, 8))
    for rule in RECOVER:
        report = apply(rule, program)
        assert (report.hits, report.refusals) == (0, [])
