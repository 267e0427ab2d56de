"""exp, sigmoid, tanh and erf as polynomials that vectorise.

LLVM turns these intrinsics into one library call per element, which is most of the time of a SiLU or a GELU. The
polynomials are minimax fits (Lawson iteration), computed in float32:

    exp(x)  = 2^n p(f),  n + f = x log2(e),  |f| <= 1/2           p: degree 6, relative error 2e-9
    erf(x)  = sign(x) (1 - exp(-x^2) t q(t)),  t = 1 / (1 + 0.55 |x|)   q: degree 5, absolute error 2e-8
    tanh(x) = sign(x) (1 - e) / (1 + e),  e = exp(-2 |x|)

so that float32 rounding dominates: below 5e-7 relative for exp where |x| < 20 (1e-6 without fused multiply-add), below
4e-7 absolute for the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tvm_ffi
from tvm import ir, tirx

EXP2 = (1.0, 6.93147206e-01, 2.40226469e-01, 5.55032878e-02, 9.61848898e-03, 1.33999316e-03, 1.53458079e-04)
ERF = (0.3015808, 0.39085851, -0.0414666, 0.75976386, -0.51806823, 0.10733169)
ERF_P = 0.55
LOG2_E = 1.4426950408889634
LARGEST, SMALLEST = 88.72, -88.3  # the exponent stays between -127 and 128
EXPONENT_BIAS, MANTISSA_BITS = 127, 23


def vectorisable(function: Any) -> Any:
    """Replace the intrinsics of a TensorIR function by their polynomials; float16 is computed in float32."""

    def replace(call: Any) -> Any:
        if getattr(call.op, "name", "") == "tirx.nearbyint":
            return _nearest(call)
        formula = FORMULAS.get(getattr(call.op, "name", ""))
        dtype = str(call.ty.dtype) if formula else ""
        if formula is None or dtype not in ("float32", "float16"):
            return call
        if dtype == "float32":
            return _bound(call.args[0], formula)
        return _bound(call.args[0].astype("float32"), formula).astype("float16")

    return tvm_ffi.structural_map(function, (ir.Call, replace), order="post")


def _nearest(call: Any) -> Any:
    """TVM vectorises calls of LLVM's functions, but none of its own ``nearbyint``; halves go to even, as there."""
    return tirx.call_llvm_pure_intrin(str(call.ty.dtype), "llvm.roundeven", call.args[0])


def _bound(value: Any, formula: Callable[[Any], Any]) -> Any:
    """Name the argument, so that a long expression is computed once."""
    name = tirx.Var("x", "float32")
    return tirx.Let(name, value, formula(name))


def _f32(value: float) -> Any:
    return tirx.FloatImm("float32", value)


def _polynomial(x: Any, coefficients: Sequence[float]) -> Any:
    total = _f32(coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + _f32(coefficient)
    return total


def _with_sign_of(x: Any, size: Any) -> Any:
    """A comparison with zero would be turned into a branch per element wherever ``x`` is a load."""
    sign: Any = tirx.reinterpret("uint32", x) & tirx.IntImm("uint32", 1 << 31)
    return tirx.reinterpret("float32", sign | tirx.reinterpret("uint32", size))


def exp(x: Any) -> Any:
    """e^x; below -87.7 the scale 2^-127 has the bits of zero, so that it underflows to 0."""

    def scaled(argument: Any) -> Any:
        whole = tirx.floor(argument * _f32(LOG2_E) + _f32(0.5))
        fraction = argument * _f32(LOG2_E) - whole
        bits = (whole.astype("int32") + EXPONENT_BIAS) << MANTISSA_BITS
        return _polynomial(fraction, EXP2) * tirx.reinterpret("float32", bits)

    return _bound(tirx.Max(_f32(SMALLEST), tirx.Min(_f32(LARGEST), x)), scaled)


def sigmoid(x: Any) -> Any:
    return _f32(1.0) / (_f32(1.0) + exp(-x))


def tanh(x: Any) -> Any:
    def ratio(e: Any) -> Any:
        return (_f32(1.0) - e) / (_f32(1.0) + e)

    size = _bound(exp(_f32(-2.0) * tirx.abs(x)), ratio)
    return _with_sign_of(x, size)


def erf(x: Any) -> Any:
    def size(t: Any) -> Any:
        return _f32(1.0) - exp(-x * x) * t * _polynomial(t, ERF)

    value = _bound(_f32(1.0) / (_f32(1.0) + _f32(ERF_P) * tirx.abs(x)), size)
    return _with_sign_of(x, value)


FORMULAS: dict[str, Callable[[Any], Any]] = {
    "tirx.exp": exp,
    "tirx.sigmoid": sigmoid,
    "tirx.tanh": tanh,
    "tirx.erf": erf,
}
