"""Element-wise operators, against coremltools' own constant folding where it exists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from hycompile.errors import Unsupported

_random = np.random.default_rng(0)
X = _random.normal(size=(2, 3, 4)).astype(np.float32)
Y = _random.normal(size=(3, 1)).astype(np.float32)
UNIT = np.linspace(-0.9, 0.9, 24, dtype=np.float32).reshape(2, 3, 4)
POSITIVE = np.abs(X) + np.float32(0.5)
HALVES = np.array([-1.5, -0.5, 0.5, 1.5, 2.5, 0.3], dtype=np.float32)
INTS = np.array([[-7, 7, 3], [5, -5, 0]], dtype=np.int32)
DIVISORS = np.array([2, -3, 4], dtype=np.int32)
LEFT, RIGHT = np.array([True, True, False, False]), np.array([True, False, True, False])
EPSILON = np.float32(0.25)

_COMPARED = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
CASES: list[tuple[Any, ...]] = [
    *(
        (name, {"x": X, "y": Y}, {})
        for name in ("add", "sub", "mul", "maximum", "minimum", "real_div", "floor_div", "mod")
    ),
    *(
        (name, {"x": INTS, "y": DIVISORS}, {})
        for name in ("add", "sub", "mul", "maximum", "minimum", "floor_div", "mod")
    ),
    *((name, {"x": INTS, "y": DIVISORS.reshape(1, 3)}, {}) for name in _COMPARED),
    *((name, {"x": HALVES, "y": HALVES[::-1].copy()}, {}) for name in _COMPARED),
    *((name, {"x": LEFT, "y": RIGHT}, {}) for name in ("logical_and", "logical_or", "logical_xor")),
    ("pow", {"x": POSITIVE, "y": Y}, {}),
    *((name, {"x": X}, {}) for name in ("abs", "atan", "ceil", "cos", "cosh", "erf", "exp", "floor", "sign")),
    *((name, {"x": X}, {}) for name in ("sin", "sinh", "square", "tan", "tanh", "exp2", "identity")),
    *((name, {"x": UNIT}, {}) for name in ("acos", "asin", "atanh")),
    *((name, {"x": INTS}, {}) for name in ("abs", "sign", "square")),
    ("sqrt", {"x": POSITIVE}, {}),
    ("round", {"x": HALVES}, {}),
    ("logical_not", {"x": LEFT}, {}),
    *((name, {"x": POSITIVE}, {"epsilon": EPSILON}) for name in ("log", "rsqrt", "inverse")),
    ("clip", {"x": X}, {"alpha": np.float32(-0.5), "beta": np.float32(0.7)}),
    ("threshold", {"x": X}, {"alpha": np.float32(0.2)}),
    ("threshold", {"x": INTS}, {"alpha": np.int32(1)}),
    *(("cast", {"x": HALVES}, {"dtype": dtype}) for dtype in ("int32", "fp16", "fp32", "bool", "int8", "int16")),
    ("cast", {"x": np.abs(INTS)}, {"dtype": "uint16"}),
    ("cast", {"x": INTS}, {"dtype": "fp32"}),
    ("cast", {"x": LEFT}, {"dtype": "int32"}),
    ("select", {"cond": X > 0, "a": X, "b": POSITIVE}, {}, lambda cond, a, b: torch.where(cond, a, b)),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_matches_reference(case: tuple[Any, ...], check: Callable[..., None]) -> None:
    check(*case)


def test_integer_real_division_is_refused(interpret: Callable[..., Any]) -> None:
    with pytest.raises(Unsupported, match=r"operator real_div 'real_div_\d+': .*rounding is not defined"):
        interpret("real_div", {"x": INTS, "y": DIVISORS}, {})
