"""Griffin's recurrent block (De et al. 2024, arXiv 2402.19427): the RG-LRU as a ``linear_recurrence`` of scalars."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hycompile.models.causal_lm.state import Stateless
from hycompile.recurrence import linear_recurrence

# The exponent c of equation 4.
_EXPONENT = 8.0


def mix(
    block: Any, hidden_states: Tensor, position_ids: Tensor, past_key_values: Stateless, **_: Any
) -> tuple[Tensor, None]:
    """What ``RecurrentGemmaRecurrentBlock.forward`` computes: [batch, tokens, width], and no attention weights."""
    y = block.act_fn(block.linear_y(hidden_states))
    x = past_key_values.convolve(block.layer_idx, block.linear_x(hidden_states), block.conv_1d)
    return block.linear_out(_recur(block, x, position_ids, past_key_values) * y), None


def _recur(block: Any, x: Tensor, position_ids: Tensor, run: Stateless) -> Tensor:
    """``h <- a h + sqrt(1 - a^2) i x`` channel by channel; at the first position the input comes in whole.

    A decay of one and an input of zero leave the state as it is: that is how padding leaves no trace.
    """
    unit = block.rg_lru
    log_decay = -_EXPONENT * _gate(unit.recurrent_gate_weight, unit.recurrent_gate_bias, x)
    log_decay = log_decay * F.softplus(unit.recurrent_param)
    scale = torch.sqrt(1 - torch.exp(2 * log_decay))
    scale = torch.where((position_ids == 0)[..., None], torch.ones_like(scale), scale)
    value = run.real(x * _gate(unit.input_gate_weight, unit.input_gate_bias, x) * scale)[..., None]
    ones = torch.ones_like(value)
    zeros = x.new_zeros(x.shape[0], x.shape[2], 1, 1)
    before = run.before(block.layer_idx, "recurrent", zeros)
    h, state = linear_recurrence(ones, ones, value, run.real(log_decay), None, before)
    run.after(block.layer_idx, "recurrent", state)
    return h.squeeze(-1)


def _gate(weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    """``sigmoid(x W + b)``, block-diagonal: [batch, tokens, heads x width], weight [heads, width, width]."""
    heads = x.unflatten(-1, weight.shape[:2]).unsqueeze(-2)
    return torch.sigmoid((heads @ weight).squeeze(-2) + bias).flatten(2)
