"""Tiles that fit the registers, and polynomials against the functions they replace."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from hypothesis import given
from hypothesis import strategies as st
from tvm import te, tirx

from hycompile.backends.tvm.functions import vectorisable
from hycompile.backends.tvm.schedule import Machine
from hycompile.backends.tvm.schedule.contraction import choose_tile
from hycompile.backends.tvm.schedule.module import schedule_function
from hycompile.backends.tvm.target import llvm_target
from hycompile.device import load_target

compute: Any = te.compute  # annotated as returning a tuple of tensors or one
AVX512, NEON = Machine(16, 32, 2), Machine(4, 32, 2)


@given(
    rows=st.integers(1, 128),
    columns=st.integers(1, 2048),
    machine=st.sampled_from([AVX512, NEON, Machine(8, 16, 2), Machine(4, 16, 2)]),
)
def test_tiles_divide_and_fit(rows: int, columns: int, machine: Machine) -> None:
    tile = choose_tile(rows, columns, machine)
    assert rows % tile.rows == 0
    assert columns % tile.columns == 0
    assert tile.rows * tile.vectors + tile.vectors + 1 <= machine.registers
    assert tile.lanes <= machine.lanes


@pytest.mark.parametrize(
    ("rows", "columns", "machine", "accumulators"),
    [(56, 96, AVX512, 24), (7, 768, AVX512, 21), (14, 64, AVX512, 28), (64, 48, NEON, 24)],
)
def test_usual_tiles_keep_the_units_busy(rows: int, columns: int, machine: Machine, accumulators: int) -> None:
    tile = choose_tile(rows, columns, machine)
    assert tile.lanes == machine.lanes
    assert tile.rows * tile.vectors >= accumulators


def product(rows: int, summed: int, columns: int) -> Any:
    """relu(A [rows, summed] B [summed, columns]) as TVM would lower it."""
    a, b = te.placeholder((rows, summed), name="A"), te.placeholder((summed, columns), name="B")
    k = te.reduce_axis((0, summed), name="k")
    c = compute((rows, columns), lambda i, j: te.sum(a[i, k] * b[k, j], axis=k), name="C")
    relu = compute((rows, columns), lambda i, j: te.max(c[i, j], 0.0), name="relu")
    return te.create_prim_func([a, b, relu])


def run(function: Any, *arrays: Any) -> None:
    tvm.compile(tvm.IRModule({"main": function}), target=llvm_target(load_target("host")))["main"](*arrays)


def test_a_constant_operand_is_packed_into_tiles() -> None:
    function, template, packing = schedule_function(product(14, 20, 192), AVX512, {1})
    assert template == "contraction"
    columns = packing[1]
    text = function.script()
    for loop in ("T.vectorized", "T.unroll", "T.parallel", 'scope="local"'):
        assert loop in text
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(14, 20)).astype("float32"), generator.normal(size=(20, 192)).astype("float32")
    packed = np.ascontiguousarray(b.reshape(20, 192 // columns, columns).transpose(1, 0, 2))
    out = tvm.runtime.empty((14, 192), "float32")
    run(
        tirx.PrimFunc(function.params, function.body, attrs=function.attrs),
        tvm.runtime.tensor(a),
        tvm.runtime.tensor(packed),
        out,
    )
    np.testing.assert_allclose(out.numpy(), np.maximum(a @ b, 0), atol=1e-5)


def test_a_runtime_operand_is_left_as_it_is() -> None:
    assert schedule_function(product(14, 20, 192), AVX512, set())[2] == {}


def evaluate(name: str, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The polynomial of one intrinsic on every element of ``x`` [n]."""
    source = te.placeholder(x.shape, name="x")
    result = compute(x.shape, lambda i: getattr(tirx, name)(source[i]), name="y")
    function = vectorisable(te.create_prim_func([source, result]))
    assert f"T.{name}(" not in function.script()
    out = tvm.runtime.empty(x.shape, "float32")
    run(function, tvm.runtime.tensor(x), out)
    return out.numpy().astype("float64")


REFERENCES: dict[str, Callable[[Any], Any]] = {
    "exp": np.exp,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "erf": np.vectorize(math.erf),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_polynomials(name: str) -> None:
    x = np.concatenate([np.linspace(-20, 20, 40001), np.linspace(-1e-3, 1e-3, 101)]).astype("float32")
    exact = REFERENCES[name](x.astype("float64"))
    scale = exact if name == "exp" else 1.0  # exp: relative error; the others are at most 1
    assert np.max(np.abs(evaluate(name, x) - exact) / scale) < 5e-7


def test_polynomials_at_the_edges() -> None:
    x = np.array([-np.inf, np.inf, np.nan, -1000, 1000, 0], dtype="float32")
    np.testing.assert_array_equal(evaluate("exp", x), [0, np.inf, np.nan, 0, np.inf, 1])
    np.testing.assert_array_equal(evaluate("sigmoid", x), [0, 1, np.nan, 0, 1, 0.5])
    np.testing.assert_array_equal(evaluate("tanh", x), [-1, 1, np.nan, -1, 1, 0])
    np.testing.assert_array_equal(evaluate("erf", x), [-1, 1, np.nan, -1, 1, 0])
