"""Gives modules of transformers a ``forward`` that computes the same through ``hycompile.recurrence``.

The modules stay what they are, with their own weights under their own names; only the function they run is another.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any

from torch import nn

from hycompile.models.causal_lm import experts, gated_delta, mamba1, mamba2, rg_lru, short_conv

_FORWARDS: dict[str, Callable[..., Any]] = {
    "BambaMixer": mamba2.mix,
    "FalconH1Mixer": mamba2.mix,
    "GraniteMoeHybridMambaLayer": mamba2.mix,
    "Mamba2Mixer": mamba2.mix,
    "NemotronHMamba2Mixer": mamba2.mix,
    "Zamba2MambaMixer": mamba2.mix,
    "JambaMambaMixer": mamba1.mix,
    "Qwen3NextGatedDeltaNet": gated_delta.mix,
    "Lfm2ShortConv": short_conv.mix,
    "RecurrentGemmaRecurrentBlock": rg_lru.mix,
    "GraniteMoeHybridTopKRouter": experts.route_granite,
    "JambaTopKRouter": experts.route_jamba,
    "NemotronHTopkRouter": experts.route_nemotron,
    "Qwen3NextTopKRouter": experts.route_qwen,
    "GraniteMoeHybridExperts": experts.compute,
    "JambaExperts": experts.compute,
    "NemotronHExperts": experts.compute,
    "Qwen3NextExperts": experts.compute,
}


def adopt(model: nn.Module) -> None:
    """Replace the mixers', routers' and experts' ``forward`` of a model of transformers, in place."""
    modules: list[tuple[str, Any]] = list(model.named_modules())
    for name, module in modules:
        forward = _FORWARDS.get(type(module).__name__)
        if forward is None:
            continue
        if forward is experts.compute:
            experts.pack(module)
        if forward is rg_lru.mix:
            # The only mixer that does not know which layer it is: ``model.layers.LAYER.temporal_block``.
            module.layer_idx = int(name.split(".")[2])
        module.forward = MethodType(forward, module)
