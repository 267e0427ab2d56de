"""Plans by name: published layouts at test size, at 40 million parameters, and at the sizes their authors give."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hycompile.models.language import layouts
from hycompile.models.language.plan import Kind, Layer, Plan

STUDIED: tuple[Kind, ...] = ("gla", "retnet", "hgrn2", "deltanet", "gated-deltanet")
RATIOS = (3, 6, 12, 24)
APRIEL_SPACES = (25, 30, 34, 37, 40)


def _tiny(layers: tuple[Layer, ...], **sizes: Any) -> Plan:
    """Small enough to test; the window is narrower than the prompt, and half of it."""
    return Plan(layers, window=8, **sizes)


def _small(layers: tuple[Layer, ...], **sizes: Any) -> Plan:
    """About 40 million parameters."""
    common: dict[str, Any] = {
        "width": 512,
        "vocabulary": 8192,
        "hidden": 1280,
        "heads": 8,
        "key_heads": 4,
        "head_width": 64,
        "inner": 1024,
        "states": 16,
        "rank": 32,
        "space_heads": 16,
        "groups": 1,
        "linear_heads": 8,
        "linear_width": 64,
        "window": 256,
        "context": 2048,
        "prompt": 128,
        "chunked": True,
    }
    return Plan(layers, **{**common, **sizes})


_PHI: dict[str, Any] = {"norm": "layer", "rotary": False}
_PHI_4_MINI_FLASH = Plan(
    layouts.sambay(32),
    width=2560,
    vocabulary=200064,
    hidden=10240,
    heads=40,
    key_heads=20,
    head_width=64,
    inner=5120,
    states=16,
    rank=160,
    window=512,
    context=32768,
    prompt=2048,
    bias=True,
    chunked=True,
    **_PHI,
)
_PHI_4_MINI_FLASH_FIFTH = replace(
    _PHI_4_MINI_FLASH, width=512, vocabulary=40000, hidden=2048, heads=8, key_heads=4, inner=1024, rank=32
)
"""All layers and proportions of the plan at a fifth of its width: 0.15 billion parameters, which a laptop can time."""
_SAMBA_1_7B = Plan(
    layouts.samba(24),
    width=2048,
    vocabulary=32064,
    hidden=8192,
    heads=32,
    key_heads=4,
    head_width=64,
    inner=4096,
    states=16,
    rank=128,
    window=2048,
    context=32768,
    prompt=2048,
    chunked=True,
)
_YOCO_3B = Plan(
    layouts.yoco(26),
    width=3072,
    vocabulary=100288,
    hidden=8192,
    heads=24,
    key_heads=8,
    head_width=128,
    window=1024,
    context=32768,
    prompt=2048,
    chunked=True,
)
_APRIEL_15B: dict[str, Any] = {
    "width": 5120,
    "vocabulary": 131072,
    "hidden": 14336,
    "heads": 32,
    "key_heads": 8,
    "head_width": 128,
    "rank": 320,
    "context": 32768,
    "prompt": 2048,
    "tied": False,
    "chunked": True,
}
_MAMBA2_HYBRID_8B = Plan(
    layouts.mamba2_hybrid(),
    width=4096,
    vocabulary=256000,
    # The authors' layers are not gated: 16384 with two matrices are as many parameters as this with three.
    hidden=10922,
    heads=32,
    key_heads=8,
    head_width=128,
    inner=8192,
    states=128,
    space_heads=128,
    groups=8,
    context=4096,
    prompt=2048,
    rotary=False,
    tied=False,
    chunked=True,
)

PLANS: dict[str, Plan] = {
    "sambay-tiny": _tiny(layouts.sambay(8), chunked=True, **_PHI),
    "samba2y-tiny": _tiny(layouts.sambay(8, "mamba2", "ngmu"), **_PHI),
    "gdny-tiny": _tiny(layouts.sambay(8, "gated-deltanet", "ngmu", differential=False), rotary=False),
    "samba-tiny": _tiny(layouts.samba(4)),
    "yoco-tiny": _tiny(layouts.yoco(6), chunked=True),
    "transformer-tiny": _tiny(layouts.transformer(3)),
    "apriel-h1-tiny": _tiny(layouts.apriel_h1(5, 3), tied=False),
    "mamba-2-hybrid-tiny": _tiny(layouts.mamba2_hybrid("M-M*-M-"), rotary=False, tied=False),
    **{f"study-{mixer}-{ratio}-1-tiny": _tiny(layouts.study(mixer, ratio)) for mixer in STUDIED for ratio in RATIOS},
    "sambay-kjv": Plan(
        layouts.sambay(12),
        width=192,
        vocabulary=2048,
        hidden=512,
        heads=6,
        key_heads=2,
        head_width=32,
        inner=384,
        states=16,
        rank=12,
        window=128,
        context=1024,
        prompt=64,
        chunked=True,
        **_PHI,
    ),
    "sambay-40m": _small(layouts.sambay(12), **_PHI),
    "samba2y-40m": _small(layouts.sambay(12, "mamba2", "ngmu"), states=64, **_PHI),
    "samba-40m": _small(layouts.samba(12)),
    "transformer-40m": _small(layouts.transformer(12), hidden=1536),
    "phi-4-mini-flash": _PHI_4_MINI_FLASH,
    "phi-4-mini-flash-fifth": _PHI_4_MINI_FLASH_FIFTH,
    "samba-1.7b": _SAMBA_1_7B,
    "yoco-3b": _YOCO_3B,
    **{f"apriel-h1-15b-{count}": Plan(layouts.apriel_h1(50, count), **_APRIEL_15B) for count in APRIEL_SPACES},
    "mamba-2-hybrid-8b": _MAMBA2_HYBRID_8B,
}
