"""Searches: what changes the ranges that observers chose. One file each; ``METHODS`` names them."""

from __future__ import annotations

from hycompile.passes.quantise.methods.easyquant import EasyQuant
from hycompile.passes.quantise.methods.observed import Observed
from hycompile.passes.quantise.methods.ptq4vit import PTQ4ViT
from hycompile.passes.quantise.methods.qhyvit import QHyViT
from hycompile.passes.quantise.methods.search import Search

__all__ = ["METHODS", "Search", "search_for"]

METHODS: dict[str, type[Search]] = {search.name: search for search in (Observed, EasyQuant, PTQ4ViT, QHyViT)}


def search_for(name: str, without: str) -> Search:
    """The search of that name, without some of its parts (``"scheme+bridges"``; empty for all of it).

    Raises:
        ValueError: no such search, or no such part of it.
    """
    if name not in METHODS:
        raise ValueError(f"no method {name!r}; one of {', '.join(METHODS)}")
    search, left_out = METHODS[name], frozenset(filter(None, without.split("+")))
    unknown = sorted(left_out - set(search.parts))
    if unknown:
        parts = f"its parts are {', '.join(search.parts)}" if search.parts else "it has no parts"
        raise ValueError(f"method {name!r} has no part {unknown[0]!r} to leave out; {parts}")
    return search(left_out)
