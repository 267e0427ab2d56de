"""Mamba-1's mixer (Gu & Dao 2023, arXiv 2312.00752) with Jamba's norms, as one ``selective_scan``."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from hycompile.models.causal_lm.state import Stateless
from hycompile.recurrence import selective_scan


def mix(mixer: Any, hidden_states: Tensor, cache_params: Stateless, **_: Any) -> Tensor:
    """What ``JambaMambaMixer.forward`` computes, [batch, tokens, width].

    A step of zero leaves the state as it is: that is how padding leaves no trace.
    """
    x, gate = mixer.in_proj(hidden_states).chunk(2, dim=-1)
    x = mixer.act(cache_params.convolve(mixer.layer_idx, x, mixer.conv1d))
    sizes = [mixer.time_step_rank, mixer.ssm_state_size, mixer.ssm_state_size]
    step, b, c = mixer.x_proj(x).split(sizes, dim=-1)
    step = F.softplus(mixer.dt_proj(mixer.dt_layernorm(step)))
    a = -mixer.A_log.exp()
    zeros = x.new_zeros(x.shape[0], *a.shape)
    y, state = selective_scan(
        x,
        cache_params.real(step),
        a,
        mixer.b_layernorm(b),
        mixer.c_layernorm(c),
        cache_params.before(mixer.layer_idx, "recurrent", zeros),
    )
    cache_params.after(mixer.layer_idx, "recurrent", state)
    return mixer.out_proj((y + x * mixer.D) * F.silu(gate))
