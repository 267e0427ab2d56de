"""Published layer plans. Each block is a mixer and a feed-forward layer, unless a plan says otherwise."""

from __future__ import annotations

from collections.abc import Sequence

from hycompile.models.language.plan import Kind, Layer

_MAMBA2_HYBRID_8B = "M-M-M--M-M*-M-M-M-M--M*-M-M-M-M-M*--M-M-M-M-M*-M--M-M-M-"
"""NVIDIA's 56 layers (Waleffe et al. 2024, arXiv 2406.07887): 24 Mamba-2, 4 attention, 28 feed-forward."""


def blocks(mixers: Sequence[Kind], gives: Sequence[int] = ()) -> tuple[Layer, ...]:
    """A feed-forward layer behind each mixer; ``gives`` are the blocks whose readout or cache later ones use."""
    layers: list[Layer] = []
    for depth, kind in enumerate(mixers):
        layers += [Layer(kind, depth in gives, depth), Layer("mlp", depth=depth)]
    return tuple(layers)


def transformer(count: int) -> tuple[Layer, ...]:
    """Full attention throughout."""
    return blocks(_times("full", count))


def samba(count: int) -> tuple[Layer, ...]:
    """Samba (Ren et al. 2024, arXiv 2406.07522): Mamba and windowed attention in turn."""
    pair: list[Kind] = ["mamba1", "window"]
    return blocks(pair * (count // 2))


def yoco(count: int) -> tuple[Layer, ...]:
    """YOCO (Sun et al. 2024, arXiv 2405.05254): half windowed attention, then half that read one cache.

    The first layer of the second half makes the cache of its own input.
    """
    half = count // 2
    mixers: list[Kind] = [*_times("window", half), "full", *_times("cross", half - 1)]
    return blocks(mixers, gives=[half])


def sambay(count: int, space: Kind = "mamba1", unit: Kind = "gmu", differential: bool = True) -> tuple[Layer, ...]:
    """SambaY (Ren et al. 2025, arXiv 2507.06607), as in Phi-4-mini-flash.

    Args:
        count: of blocks, a multiple of four.
        space: mixer of even blocks up to the middle; the middle one gives the memory.
        unit: what even blocks behind the middle are: gated memory units, or what a comparison puts in their place.
        differential: differential attention in odd blocks; the one behind the middle is full and gives the cache.
    """
    window: Kind = "diff-window" if differential else "window"
    full: Kind = "diff-full" if differential else "full"
    cross: Kind = "diff-cross" if differential else "cross"
    half = count // 2
    first: list[Kind] = [window if index % 2 else space for index in range(half)]
    second: list[Kind] = [cross if index % 2 else unit for index in range(half - 2)]
    mixers: list[Kind] = [*first, space, full, *second]
    gives = [half, half + 1] if unit in ("gmu", "ngmu") else [half + 1]
    return blocks(mixers, gives)


def apriel_h1(count: int, spaces: int) -> tuple[Layer, ...]:
    """Apriel-H1 (2025): a transformer in which ``spaces`` attentions became state spaces.

    Which ones they are the authors chose by their effect on the loss; here those that stay are spread evenly.
    """
    stay = count - spaces
    attention = {round((index + 0.5) * count / stay - 0.5) for index in range(stay)}
    mixers: list[Kind] = ["full" if index in attention else "mamba-in-llama" for index in range(count)]
    return blocks(mixers)


def mamba2_hybrid(pattern: str = _MAMBA2_HYBRID_8B) -> tuple[Layer, ...]:
    """Mamba-2-Hybrid: ``M`` is Mamba-2, ``*`` full attention, ``-`` feed-forward."""
    kinds: dict[str, Kind] = {"M": "mamba2", "*": "full", "-": "mlp"}
    return tuple(Layer(kinds[letter], depth=depth) for depth, letter in enumerate(pattern))


def study(mixer: Kind, ratio: int) -> tuple[Layer, ...]:
    """The study of hybrid linear attention (Wang et al. 2025, arXiv 2507.06457): ``ratio`` linear layers a full one."""
    return blocks([*_times(mixer, ratio), "full"])


def _times(kind: Kind, count: int) -> list[Kind]:
    return [kind for _ in range(count)]
