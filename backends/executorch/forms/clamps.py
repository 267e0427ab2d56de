"""Clamps one behind the other as one clamp."""

from __future__ import annotations

import math
from typing import cast

from hycompile.builder import Value, call
from hycompile.pattern import Any, Call
from hycompile.rewrite import rule

_CLAMPS = ("aten.relu", "aten.relu6", "aten.hardtanh")


@rule(
    Call(_CLAMPS, name="outer", self=Call(_CLAMPS, name="inner", self=Any("x"), once=True)),
    source="clamps to nested ranges: min(max(x, a), b) is monotone, so it maps the ends of one range to those of both",
)
def merge_clamps(outer: Value, inner: Value, x: Value) -> Value:
    """clamp(clamp(x, a, b), c, d) = clamp(x, clamp(a, c, d), clamp(b, c, d)).

    Given: relu, relu6 or hardtanh behind another (a relu before the clamp to a narrow grid).
    Result: one of them. XNNPACK's fusion (``fuse_activation_pass.py``) computes the first one together with the layer
    before it, then the second one in its place, and the first is lost without an error.
    """
    (a, b), (c, d) = _bounds(inner), _bounds(outer)
    low, high = min(max(a, c), d), min(max(b, c), d)
    if (low, high) == (0.0, math.inf):
        return call("aten.relu", x)
    return call("aten.hardtanh", x, low, high)


def _bounds(clamp: Value) -> tuple[float, float]:
    name = str(clamp.node.target)
    if name == "aten.hardtanh.default":
        return cast("float", clamp["min_val"]), cast("float", clamp["max_val"])
    return 0.0, 6.0 if name == "aten.relu6.default" else math.inf
