"""The gated delta net (Yang et al. 2024, arXiv 2412.06464) as one ``linear_recurrence``, with Qwen3-Next's layout."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hycompile.models.causal_lm.state import Stateless
from hycompile.recurrence import linear_recurrence

# Under the root of the squared length of queries and keys, as in the kernels the models were trained with.
_EPSILON = 1e-6


def mix(mixer: Any, hidden_states: Tensor, cache_params: Stateless, **_: Any) -> Tensor:
    """What ``Qwen3NextGatedDeltaNet.forward`` computes, [batch, tokens, width].

    No decay and no update leave the state as it is: that is how padding leaves no trace.
    """
    layer = mixer.layer_idx
    query, key, value, gate, b, a = mixer.fix_query_key_value_ordering(
        mixer.in_proj_qkvz(hidden_states), mixer.in_proj_ba(hidden_states)
    )
    mixed = torch.cat([query.flatten(2), key.flatten(2), value.flatten(2)], dim=-1)
    mixed = F.silu(cache_params.convolve(layer, mixed, mixer.conv1d))
    query, key, value = mixed.split([mixer.key_dim, mixer.key_dim, mixer.value_dim], dim=-1)
    value = value.unflatten(-1, (mixer.num_v_heads, mixer.head_v_dim))
    log_decay = -mixer.A_log.exp() * F.softplus(a + mixer.dt_bias)
    zeros = value.new_zeros(value.shape[0], mixer.num_v_heads, mixer.head_k_dim, mixer.head_v_dim)
    y, state = linear_recurrence(
        _heads(mixer, query) * mixer.head_k_dim**-0.5,
        _heads(mixer, key),
        value,
        cache_params.real(log_decay),
        cache_params.real(b.sigmoid()),
        cache_params.before(layer, "recurrent", zeros),
    )
    cache_params.after(layer, "recurrent", state)
    return mixer.out_proj(mixer.norm(y, gate).flatten(2))


def _heads(mixer: Any, x: Tensor) -> Tensor:
    """[batch, tokens, key heads x width] as [batch, tokens, value heads, width], each vector of length one."""
    heads = x.unflatten(-1, (mixer.num_k_heads, 1, mixer.head_k_dim))
    heads = heads * torch.rsqrt((heads * heads).sum(-1, keepdim=True) + _EPSILON)
    return heads.expand(-1, -1, -1, mixer.num_v_heads // mixer.num_k_heads, -1).flatten(2, 3)
