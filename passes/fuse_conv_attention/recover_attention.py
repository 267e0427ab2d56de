"""Products around a softmax become one scaled-dot-product attention."""

from __future__ import annotations

from torch import Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true

from hycompile.builder import Value, call
from hycompile.masks import masked_row_in, masked_row_of
from hycompile.passes.fuse_conv_attention.layout import order_of
from hycompile.passes.fuse_conv_attention.logits import Logits, logits_of
from hycompile.passes.fuse_conv_attention.moves import transposed
from hycompile.pattern import Any, Call, OneOf
from hycompile.rewrite import require, rule

SOFTMAX = Call("aten.softmax.int", name="softmax")
_PERMUTES = ("aten.permute", "aten.transpose.int")
_WEIGHTS = OneOf(SOFTMAX, Call(_PERMUTES, name="turned", self=SOFTMAX))


@rule(Call("aten.bmm", self=Any("left"), mat2=Any("right")), source="definition of bmm")
def bmm_to_matmul(left: Value, right: Value) -> Value:
    """bmm(a, b) = matmul(a, b);  one name for one product.

    Given: a batched product of two values of rank three.
    Result: the same as a matmul.
    """
    return call("aten.matmul", left, right)


@rule(
    Call("aten.matmul", self=_WEIGHTS, other=Any("values")),
    source="Vaswani et al. 2017, equation 1; R12a of the rule catalogue for the scale",
)
def recover_attention(softmax: Value, turned: Value | None, values: Value) -> Value:
    """softmax(s Q K^T + B) V = SDPA(Q, K, V, B, s);  Q [.., L, E], K [.., S, E], V [.., S, Ev], B [.., L, S].

    Given: a product of a softmax and values, where the softmax is of a product with constant scales (numbers, or one
    for each head) on queries, keys or logits and with biases, constant or not, in any order; queries along rows or,
    with the softmax over rows and transposed, along columns.
    Result: one attention with an explicit scale; a scale for each head multiplies the queries. A bias added before a
    scale is scaled.

    Refused where softmax or logits have another user, where batch axes do not match, and where a bias may mask a whole
    row: softmax makes that NaN, attention zero.
    """
    logits, over_rows = _logits(softmax)
    require(over_rows == _swapped(turned), "the softmax is over the other axis than the values are summed over")
    return _attention(logits, over_rows, values)


@rule(
    Call("aten.matmul", self=Any("values"), other=_WEIGHTS),
    source="Vaswani et al. 2017, equation 1, transposed; written so in LeViT, EfficientViT-M and SHViT",
)
def recover_transposed_attention(softmax: Value, turned: Value | None, values: Value) -> Value:
    """V^T softmax(s Q K^T + B)^T = SDPA(Q, K, V, B, s)^T;  V^T [.., Ev, S], the rest as in recover_attention.

    Given: channels-first attention: values times a transposed softmax, or times a softmax over rows.
    Result: one attention, transposed back; its transposes join those around it.

    Refused as recover_attention.
    """
    logits, over_rows = _logits(softmax)
    require(over_rows != _swapped(turned), "the softmax is over the other axis than the values are summed over")
    return transposed(_attention(logits, over_rows, transposed(values)))


def _swapped(turned: Value | None) -> bool:
    """Whether the softmax comes transposed; refuses any other permute of it."""
    if turned is None:
        return False
    rank = len(turned.shape)
    order = order_of(turned.node, rank)
    require(order == [*range(rank - 2), rank - 1, rank - 2], "the softmax is permuted by {}", order)
    return True


def _logits(softmax: Value) -> tuple[Logits, bool]:
    """What the softmax is of, and whether it sums over rows instead of columns."""
    rank, source = len(softmax.shape), softmax["self"]
    axis = softmax["dim"] % rank
    require(rank >= 3, "a product of rank {} has no batch of heads", rank)
    require(axis >= rank - 2, "the softmax is over axis {} of {}", axis, rank)
    users = len(softmax.node.users)
    require(users == 1, "the softmax has {} users, attention would not show it to the others", users)
    require(softmax["dtype"] in (None, source.dtype), "the softmax changes the type to {}", softmax["dtype"])
    return logits_of(softmax.node.graph.owning_module, source.node), axis == rank - 2  # type: ignore[arg-type]


def _attention(logits: Logits, over_rows: bool, values: Value) -> Value:
    """The attention over columns, or over rows: then left and right, and the axes of the bias, change places."""
    if over_rows:
        queries, keys, bias = transposed(logits.right), logits.left, _turned_bias(logits.bias)
    else:
        queries, keys, bias = logits.left, transposed(logits.right), logits.bias
    rank = len(queries.shape)
    require(len(keys.shape) == len(values.shape) == rank, "queries, keys and values have different ranks")
    for operand in (keys, values):
        require(
            all(
                statically_known_true(b == 1) or statically_known_true(a == b)
                for a, b in zip(queries.shape[:-2], operand.shape[:-2], strict=True)
            ),
            "the batch of queries {} and that of {} {} differ",
            list(queries.shape[:-2]),
            operand.node.name,
            list(operand.shape[:-2]),
        )
    if logits.factor is not None:
        queries = call("aten.mul.Tensor", queries, logits.factor)
    mask = _mask(bias, rank)
    return call("aten.scaled_dot_product_attention", queries, keys, values, mask, 0.0, False, scale=logits.scale)


def _turned_bias(bias: Tensor | Value | None) -> Tensor | Value | None:
    if isinstance(bias, Value):
        return transposed(bias if len(bias.shape) > 1 else call("aten.reshape", bias, [1, -1]))
    if bias is None or bias.dim() == 0:
        return bias
    return (bias if bias.dim() > 1 else bias[None]).mT


def _mask(bias: Tensor | Value | None, rank: int) -> Tensor | Value | None:
    """The bias with the rank of the queries, known to leave every query a key."""
    if bias is None:
        return None
    if isinstance(bias, Tensor):
        reason = masked_row_in(bias, "the bias")
    else:
        module = bias.node.graph.owning_module
        reason = masked_row_of(module, bias.node)  # type: ignore[arg-type]
    require(reason is None, "softmax would give NaN where attention gives zero: {}", reason)
    own = bias.dim() if isinstance(bias, Tensor) else len(bias.shape)
    require(own <= rank, "the bias has rank {}, the queries {}", own, rank)
    if isinstance(bias, Tensor) and (own == 0 or bias.shape[-1] == 1):
        return None  # The same for every key: softmax does not see it.
    if isinstance(bias, Tensor):
        return bias.reshape(*[1] * (rank - own), *bias.shape)
    for _ in range(rank - own):
        bias = call("aten.unsqueeze", bias, 0)
    return bias
