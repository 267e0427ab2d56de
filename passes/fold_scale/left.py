"""Which constant factors are left although a linear operator could take them in."""

from __future__ import annotations

from torch.fx import Node

from hycompile.passes.absorb.consumers import find_consumers
from hycompile.passes.absorb.producer import find_producer
from hycompile.passes.fold_scale.pattern import ConstantMap
from hycompile.pattern import Captures
from hycompile.program import Program
from hycompile.rewrite import Refused

_MAP = ConstantMap()


def foldable_scales(program: Program) -> list[str]:
    """Names of the multiplications and divisions by finite constants with a linear neighbour that has room for them."""
    left: list[str] = []
    for method in program.methods.values():
        for node in method.graph.graph.nodes:
            found = _MAP.match(method.graph, node, {})
            if found is not None and _finite_scale(found) and _absorbed(node, found):
                left.append(node.name)
    return left


def _finite_scale(found: Captures) -> bool:
    affine = found["affine"]
    return not affine.shifts and bool(affine.scale.isfinite().all())


def _absorbed(node: Node, found: Captures) -> bool:
    axis, affine = found["axis"], found["affine"]
    try:
        find_producer(found["x"].node, axis, affine, "the scale")
    except Refused:
        try:
            find_consumers(node, axis, affine, "the scale")
        except Refused:
            return False
    return True
