"""A layer plan: which mixers stand in which order, and the sizes they share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal[
    "mamba1",
    "mamba2",
    "mamba-in-llama",
    "gla",
    "retnet",
    "hgrn2",
    "deltanet",
    "gated-deltanet",
    "window",
    "full",
    "diff-window",
    "diff-full",
    "cross",
    "diff-cross",
    "gmu",
    "ngmu",
    "mlp",
]


@dataclass(frozen=True)
class Layer:
    """One residual unit.

    Args:
        kind: of its mixer.
        gives: its readout is the memory, or its keys and values the cache, of the layers after it.
        depth: index of its block, for what depends on depth.
    """

    kind: Kind
    gives: bool = False
    depth: int = 0


@dataclass(frozen=True)
class Plan:
    """A decoder.

    Args:
        layers: in order.
        width: of the residual stream.
        vocabulary: tokens.
        hidden: of feed-forward layers.
        heads: of queries.
        key_heads: of keys and values.
        head_width: of attention.
        inner: channels of state spaces.
        states: dimensions of a Mamba-1 channel's state, and of Mamba-2's B and C.
        rank: of Mamba-1's step sizes.
        space_heads: heads of Mamba-2.
        groups: of Mamba-2's heads that share B and C.
        linear_heads: heads of linear attentions and delta rules.
        linear_width: of each of them.
        window: tokens a windowed attention sees.
        context: tokens a full attention's cache holds.
        prompt: tokens of the captured ``prefill``, and of a chunk.
        chunked: prompts may come in chunks: ``extend`` and ``finish`` are captured too.
        norm: of layers.
        rotary: rotary positions in attention.
        bias: on the projections of attention.
        tied: the head is the embedding.
    """

    layers: tuple[Layer, ...]
    width: int = 32
    vocabulary: int = 256
    hidden: int = 48
    heads: int = 4
    key_heads: int = 2
    head_width: int = 8
    inner: int = 64
    states: int = 8
    rank: int = 6
    space_heads: int = 4
    groups: int = 2
    linear_heads: int = 3
    linear_width: int = 12
    window: int = 20
    context: int = 128
    prompt: int = 16
    chunked: bool = False
    norm: Literal["layer", "rms"] = "rms"
    rotary: bool = True
    bias: bool = False
    tied: bool = True

    def resized(self, prompt: int | None = None, context: int | None = None) -> Plan:
        """The same decoder for another prompt or context; the weights are the same."""
        return replace(self, prompt=prompt or self.prompt, context=context or self.context)
