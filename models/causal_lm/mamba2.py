"""Mamba-2's mixer (Dao & Gu 2024, arXiv 2405.21060) as one ``linear_recurrence``: keys B, values dt x, queries C."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from hycompile.models.causal_lm.state import Stateless
from hycompile.recurrence import linear_recurrence


def mix(mixer: Any, hidden_states: Tensor, cache_params: Stateless, **_: Any) -> Tensor:
    """What the Mamba-2 mixers of transformers compute, [batch, tokens, width].

    Falcon-H1's has multipliers before and after the first projection, and a norm only where its configuration says so.
    A step of zero leaves the state as it is: that is how padding leaves no trace.
    """
    projected = mixer.in_proj(hidden_states * getattr(mixer, "ssm_in_multiplier", 1))
    projected = projected * getattr(mixer, "mup_vector", 1)
    gate, x, step = projected.split([mixer.intermediate_size, mixer.conv_dim, mixer.num_heads], dim=-1)
    x = mixer.act(cache_params.convolve(mixer.layer_idx, x, mixer.conv1d))
    group = mixer.n_groups * mixer.ssm_state_size
    x, b, c = x.split([mixer.intermediate_size, group, group], dim=-1)
    x = x.unflatten(-1, (mixer.num_heads, mixer.head_dim))
    step = cache_params.real(_step(mixer, step))
    zeros = x.new_zeros(x.shape[0], mixer.num_heads, mixer.ssm_state_size, mixer.head_dim)
    y, state = linear_recurrence(
        _heads(mixer, c),
        _heads(mixer, b),
        x * step[..., None],
        -mixer.A_log.exp() * step,
        None,
        cache_params.before(mixer.layer_idx, "recurrent", zeros),
    )
    cache_params.after(mixer.layer_idx, "recurrent", state)
    y = (y + x * mixer.D[:, None]).flatten(2)
    norm = getattr(mixer, "norm", None)
    y = y * F.silu(gate) if norm is None or isinstance(norm, nn.Identity) else norm(y, gate)
    return mixer.out_proj(y)


def _step(mixer: Any, step: Tensor) -> Tensor:
    """Positive step sizes [batch, tokens, heads], within the limits; softplus is within (0, inf) by itself."""
    step = F.softplus(step + mixer.dt_bias)
    low, high = mixer.time_step_limit
    return step if (low, high) == (0.0, float("inf")) else step.clamp(low, high)


def _heads(mixer: Any, x: Tensor) -> Tensor:
    """[batch, tokens, groups x state width] as [batch, tokens, heads, state width]: heads of a group share."""
    groups = x.unflatten(-1, (mixer.n_groups, 1, mixer.ssm_state_size))
    return groups.expand(-1, -1, -1, mixer.num_heads // mixer.n_groups, -1).flatten(2, 3)
