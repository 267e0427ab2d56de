"""The operators ``hycompile::linear_recurrence``, ``selective_scan``, ``causal_conv`` and ``cache_write``.

A model says *which* recurrence it means; exporting it then gives one node, not one group of nodes a token, and
``lower-scans`` puts the form in its place that suits target and length. Run as they are, the operators compute their
definition token by token (:mod:`hycompile.recurrence.sequential`), which every other form is proved against.

All are functional: state comes in, the next state goes out. Under autograd the functions here use the chunked forms,
so that a model trains at a useful speed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hycompile.recurrence import sequential

_LIBRARY = torch.library.Library("hycompile", "DEF")
_LIBRARY.define(
    "linear_recurrence(Tensor query, Tensor key, Tensor value, Tensor? log_decay, Tensor? beta, Tensor state)"
    " -> (Tensor, Tensor)"
)
_LIBRARY.define("selective_scan(Tensor x, Tensor dt, Tensor a, Tensor b, Tensor c, Tensor state) -> (Tensor, Tensor)")
_LIBRARY.define("causal_conv(Tensor x, Tensor weight, Tensor? bias, Tensor state, Tensor? count) -> (Tensor, Tensor)")
_LIBRARY.define("cache_write(Tensor cache, Tensor new, Tensor start, Tensor? count) -> Tensor")

_LIBRARY.impl("linear_recurrence", sequential.linear_recurrence, "CompositeExplicitAutograd")
_LIBRARY.impl("selective_scan", sequential.selective_scan, "CompositeExplicitAutograd")
_LIBRARY.impl("causal_conv", sequential.causal_conv, "CompositeExplicitAutograd")
_LIBRARY.impl("cache_write", sequential.cache_write, "CompositeExplicitAutograd")


@torch.library.register_fake("hycompile::linear_recurrence", lib=_LIBRARY)
def _(
    query: Tensor, key: Tensor, value: Tensor, log_decay: Tensor | None, beta: Tensor | None, state: Tensor
) -> tuple[Tensor, Tensor]:
    return value.new_empty(value.shape), state.new_empty(state.shape)


@torch.library.register_fake("hycompile::selective_scan", lib=_LIBRARY)
def _(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), state.new_empty(state.shape)


@torch.library.register_fake("hycompile::causal_conv", lib=_LIBRARY)
def _(x: Tensor, weight: Tensor, bias: Tensor | None, state: Tensor, count: Tensor | None) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), state.new_empty(state.shape)


@torch.library.register_fake("hycompile::cache_write", lib=_LIBRARY)
def _(cache: Tensor, new: Tensor, start: Tensor, count: Tensor | None) -> Tensor:
    return cache.new_empty(cache.shape)


def linear_recurrence(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    log_decay: Tensor | None,
    beta: Tensor | None,
    state: Tensor,
) -> tuple[Tensor, Tensor]:
    """Linear attention with a matrix state, with or without decay and delta rule.

    ``S <- exp(g_t) S``; then ``S <- S + k_t v_t^T``, or with ``beta`` ``S <- S + k_t (beta_t (v_t - S^T k_t))^T``;
    ``o_t = S^T q_t``. The opset-27 operator ``LinearAttention`` of ONNX is the same recurrence with ``scale=1``.

    Args:
        query: [batch, tokens, heads, key width]; scaled by the caller.
        key: [batch, tokens, heads, key width].
        value: [batch, tokens, heads, value width].
        log_decay: at most 0; [batch, tokens, heads], or [batch, tokens, heads, key width]; None for none.
        beta: [batch, tokens, heads]; None for the plain update.
        state: [batch, heads, key width, value width].

    Returns:
        Output like ``value``, and the state after the last token.
    """
    if _trains(query, key, value, log_decay, beta, state):
        from hycompile.recurrence import chunked

        return chunked.linear_recurrence(query, key, value, log_decay, beta, state)
    return torch.ops.hycompile.linear_recurrence(query, key, value, log_decay, beta, state)


def selective_scan(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Mamba-1's scan: ``S <- exp(dt_t a) S + (dt_t x_t) b_t^T``; ``y_t = S c_t`` (without the skip ``D x``).

    Args:
        x: [batch, tokens, channels].
        dt: positive step sizes, [batch, tokens, channels]; 0 leaves the state as it is.
        a: negative, [channels, state width], or [batch, channels, state width] where rows differ.
        b: [batch, tokens, state width].
        c: [batch, tokens, state width].
        state: [batch, channels, state width].

    Returns:
        Output like ``x``, and the state after the last token.
    """
    if _trains(x, dt, a, b, c, state):
        from hycompile.recurrence import chunked

        return chunked.selective_scan(x, dt, a, b, c, state)
    return torch.ops.hycompile.selective_scan(x, dt, a, b, c, state)


def causal_conv(
    x: Tensor, weight: Tensor, bias: Tensor | None, state: Tensor, count: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Depthwise convolution over the token and those before it; ``CausalConvWithState`` of ONNX opset 27.

    Args:
        x: [batch, tokens, channels].
        weight: [channels, taps]; the last tap meets the token itself.
        bias: [channels].
        state: the ``taps - 1`` inputs before the first token, [batch, channels, taps - 1].
        count: [1], how many of the tokens count, from the first; all by default.

    Returns:
        Output like ``x``, and the last ``taps - 1`` inputs that count.
    """
    if _trains(x, weight, bias, state):
        from hycompile.recurrence import chunked

        return chunked.causal_conv(x, weight, bias, state, count)
    return torch.ops.hycompile.causal_conv(x, weight, bias, state, count)


def cache_write(cache: Tensor, new: Tensor, start: Tensor, count: Tensor | None = None) -> Tensor:
    """A cache after tokens ``start .. start + count - 1`` were written, token p at slot ``p % slots``.

    Where more tokens come than there are slots, the last ones stay.

    Args:
        cache: [batch, heads, slots, width].
        new: [batch, heads, tokens, width].
        start: [1], position of the first token.
        count: [1], how many of the tokens count, from the first; all by default.
    """
    return torch.ops.hycompile.cache_write(cache, new, start, count)


def _trains(*tensors: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)
