"""Softplus with one portable kernel instead of three."""

from __future__ import annotations

from hycompile.builder import Value, call
from hycompile.pattern import Any, Arg, Call
from hycompile.rewrite import require, rule

_EXACT = 20.0
"""From here on ``log1p(exp(-x))`` is lost in rounding ``x``, in float32; PyTorch's own threshold."""


@rule(
    Call("aten.softplus", self=Any("x"), beta=Arg("beta"), threshold=Arg("threshold")),
    source="log(1 + e^x) = max(x, 0) + log(1 + e^-|x|)",
)
def expand_softplus(x: Value, beta: float, threshold: float) -> Value:
    """softplus(x) = relu(x) + log1p(exp(-|x|)).

    Given: a softplus with PyTorch's sharpness and threshold (the step sizes of state spaces).
    Result: operators of the delegate around one ``log1p``. ExecuTorch's own decomposition also compares and chooses, in
    portable kernels that take longer than everything else in it.

    Refused where another sharpness or a lower threshold makes it another function.
    """
    require(beta == 1, "its sharpness is {}", beta)
    require(threshold >= _EXACT, "it is the identity from {} on", threshold)
    rest = call("aten.log1p", call("aten.exp", call("aten.neg", call("aten.abs", x))))
    return call("aten.add.Tensor", call("aten.relu", x), rest)
