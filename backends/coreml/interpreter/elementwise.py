"""Element-wise operators of one and two inputs, with NumPy broadcasting."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hycompile.backends.coreml.interpreter.registry import operator
from hycompile.errors import Unsupported

_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "mod": torch.remainder,
    "pow": torch.pow,
    "equal": torch.eq,
    "not_equal": torch.ne,
    "less": torch.lt,
    "less_equal": torch.le,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "logical_and": torch.logical_and,
    "logical_or": torch.logical_or,
    "logical_xor": torch.logical_xor,
}

_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "abs": torch.abs,
    "acos": torch.acos,
    "asin": torch.asin,
    "atan": torch.atan,
    "atanh": torch.atanh,
    "ceil": torch.ceil,
    "cos": torch.cos,
    "cosh": torch.cosh,
    "erf": torch.erf,
    "exp": torch.exp,
    "floor": torch.floor,
    "logical_not": torch.logical_not,
    "round": torch.round,
    "sign": torch.sign,
    "sin": torch.sin,
    "sinh": torch.sinh,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "tan": torch.tan,
    "tanh": torch.tanh,
}


def _register_binary(name: str, function: Callable[[Tensor, Tensor], Tensor]) -> None:
    @operator(name)
    def _(x: Tensor, y: Tensor) -> Tensor:
        return function(x, y)


def _register_unary(name: str, function: Callable[[Tensor], Tensor]) -> None:
    @operator(name)
    def _(x: Tensor) -> Tensor:
        return function(x)


for _name, _function in _BINARY.items():
    _register_binary(_name, _function)
for _name, _function in _UNARY.items():
    _register_unary(_name, _function)


@operator("real_div")
def real_div(x: Tensor, y: Tensor) -> Tensor:
    """x / y. MIL declares an integer result for integers without saying how it rounds, so those are refused."""
    if not x.is_floating_point():
        raise Unsupported("integers", "its rounding is not defined", "use floor_div or cast first")
    return x / y


@operator("floor_div")
def floor_div(x: Tensor, y: Tensor) -> Tensor:
    """floor(x / y), for integers too."""
    return torch.div(x, y, rounding_mode="floor")


@operator("exp2")
def exp2(x: Tensor) -> Tensor:
    """2^x, keeping an integer type."""
    return torch.exp2(x).to(x.dtype)


@operator("log")
def log(x: Tensor, epsilon: Tensor) -> Tensor:
    """log(x + epsilon)."""
    return torch.log(x + epsilon)


@operator("rsqrt")
def rsqrt(x: Tensor, epsilon: Tensor) -> Tensor:
    """1 / sqrt(x + epsilon)."""
    return torch.rsqrt(x + epsilon)


@operator("inverse")
def inverse(x: Tensor, epsilon: Tensor) -> Tensor:
    """1 / (x + epsilon)."""
    return 1 / (x + epsilon)


@operator("clip")
def clip(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """min(max(x, alpha), beta)."""
    return torch.minimum(torch.maximum(x, alpha), beta)


@operator("threshold")
def threshold(x: Tensor, alpha: Tensor) -> Tensor:
    """max(x, alpha)."""
    return torch.maximum(x, alpha)


@operator("identity", moves=True)
def identity(x: Tensor) -> Tensor:
    """x."""
    return x


_CASTS = {
    "bool": torch.bool,
    "fp16": torch.float16,
    "fp32": torch.float32,
    "int8": torch.int8,
    "int16": torch.int16,
    "int32": torch.int32,
    "uint8": torch.uint8,
    # torch computes little in unsigned 16 bits: the wider type holds the same values.
    "uint16": torch.int32,
}


@operator("cast", moves=True)
def cast(x: Tensor, dtype: str) -> Tensor:
    """x in another type; floating-point values are cut towards zero on the way to integers."""
    return x.to(_CASTS[dtype])


@operator("select")
def select(cond: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """a where cond, b elsewhere."""
    return torch.where(cond.bool(), a, b)
