"""What every norm does once it knows how to take a mean."""

from __future__ import annotations

from collections.abc import Callable

from hycompile.builder import Value, call


def normalise(norm: Value, x: Value, eps: float, mean: Callable[[Value], Value], channels: list[int]) -> Value:
    """c / sqrt(mean(c^2) + eps) w + b,  c = x - mean(x).

    Args:
        norm: the call that is replaced; its weight and bias, where it has them, are w and b.
        x: what it normalises.
        eps: added to the variance.
        mean: builds the mean of a value shaped like ``x``, broadcastable to it.
        channels: the shape in which w and b broadcast to ``x``.
    """
    centred = call("aten.sub.Tensor", x, mean(x))
    variance = mean(call("aten.mul.Tensor", centred, centred))
    result = call("aten.mul.Tensor", centred, call("aten.rsqrt", call("aten.add.Tensor", variance, eps)))
    for name, operator in (("weight", "aten.mul.Tensor"), ("bias", "aten.add.Tensor")):
        if norm[name] is not None:
            result = call(operator, result, call("aten.reshape", norm[name], channels))
    return result
