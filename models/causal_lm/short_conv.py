"""LFM2's mixer: a short causal convolution between two gates (Liquid AI, LFM2 technical report, arXiv 2511.23404)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from hycompile.models.causal_lm.state import Stateless


def mix(mixer: Any, hidden_states: Tensor, past_key_values: Stateless, **_: Any) -> Tensor:
    """What ``Lfm2ShortConv.forward`` computes, [batch, tokens, width]."""
    b, c, x = mixer.in_proj(hidden_states).chunk(3, dim=-1)
    return mixer.out_proj(c * past_key_values.convolve(mixer.layer_idx, b * x, mixer.conv))
