"""Tensors of more dimensions than a target has, computed through tensors of fewer.

A tensor is its elements in row-major order; how they are grouped into dimensions is free to choose. Each operator that
touches a larger tensor is rewritten to a form that groups the dimensions it leaves alone:

    select, unbind, slice, split, cat, amax, ... of dimension d   ->   the same of dimension 1 of [before, d, after]
    permute                                                       ->   a permute of what moves together, or several
    any element-wise operator                                     ->   the same with neighbouring dimensions merged
"""

from hycompile.ranks.reduce import reduce_ranks, touches_above
from hycompile.ranks.site import rank

__all__ = ["rank", "reduce_ranks", "touches_above"]
