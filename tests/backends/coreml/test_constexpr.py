"""Compressed weights in their iOS16 and iOS18 forms, against coremltools' own decompression."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hycompile.backends.coreml.quiet import quiet_coremltools

_random = np.random.default_rng(0)
INT8 = _random.integers(-128, 128, (4, 6)).astype(np.int8)
UINT8 = _random.integers(0, 256, (4, 6)).astype(np.uint8)
SCALE = (_random.random(4) + 0.5).astype(np.float32)
BLOCK_SCALE = (_random.random((2, 3)) + 0.5).astype(np.float32)
BLOCK_OFFSET = _random.integers(-5, 5, (2, 3)).astype(np.int8)
X = _random.normal(size=(4, 6)).astype(np.float32)
MASK = (_random.random((4, 6)) > 0.4).astype(np.uint8)
STORED = _random.normal(size=int(MASK.sum())).astype(np.float32)


def _sub_byte(array: np.ndarray, bits: int) -> np.ndarray:
    """An array of MIL's ``uint1`` ... ``uint6``, which NumPy has as ``uint8`` with a label."""
    with quiet_coremltools():
        from coremltools.converters.mil.mil import types

    return array.astype(types.nptype_from_builtin(types.string_to_builtin(f"uint{bits}")))


def _packed(values: np.ndarray, bits: int) -> np.ndarray:
    stream = ((values.reshape(-1, 1) >> np.arange(bits)) & 1).astype(np.uint8).reshape(-1)
    return np.packbits(stream, bitorder="little")


def _cases() -> list[tuple[Any, ...]]:
    two_bits = _random.integers(0, 4, (4, 6)).astype(np.uint8)
    six_bits = _random.integers(0, 64, (4, 6)).astype(np.uint8)
    lut4, lut64 = _random.normal(size=4).astype(np.float32), _random.normal(size=64).astype(np.float32)
    shape = np.array([4, 6], np.uint32)
    mask1 = _sub_byte(MASK, 1)
    grouped = _random.normal(size=(2, 1, 4, 1)).astype(np.float32)
    vectors = _random.normal(size=(1, 1, 4, 3)).astype(np.float32)
    sparse_indices = _sub_byte(_random.integers(0, 4, int(MASK.sum())), 2)
    affine, lut = "constexpr_affine_dequantize", "constexpr_lut_to_dense"
    return [
        (affine, {"quantized_data": INT8, "zero_point": np.int8(3), "scale": np.float32(0.1), "axis": 0}, "iOS16"),
        (
            affine,
            {"quantized_data": UINT8, "zero_point": np.full(4, 128, np.uint8), "scale": SCALE, "axis": 0},
            "iOS16",
        ),
        (lut, {"indices": _packed(two_bits, 2), "lut": lut4, "shape": shape}, "iOS16"),
        (lut, {"indices": _packed(six_bits, 6), "lut": lut64, "shape": shape}, "iOS16"),
        (lut, {"indices": _sub_byte(two_bits, 2), "lut": grouped}, "iOS18"),
        (lut, {"indices": _sub_byte(two_bits, 2), "lut": vectors, "vector_axis": np.int32(0)}, "iOS18"),
        (lut, {"indices": _sub_byte(two_bits, 2), "lut": vectors, "vector_axis": np.int32(1)}, "iOS18"),
        ("constexpr_sparse_to_dense", {"nonzero_data": STORED, "mask": _packed(MASK, 1), "shape": shape}, "iOS16"),
        ("constexpr_sparse_to_dense", {"nonzero_data": STORED, "mask": mask1}, "iOS18"),
        ("constexpr_blockwise_shift_scale", {"data": INT8, "scale": BLOCK_SCALE, "offset": BLOCK_OFFSET}, "iOS18"),
        ("constexpr_blockwise_shift_scale", {"data": INT8, "scale": BLOCK_SCALE}, "iOS18"),
        (
            "constexpr_lut_to_sparse",
            {"indices_mask": mask1, "indices_nonzero_data": sparse_indices, "lut": lut4.reshape(1, 1, 4, 1)},
            "iOS18",
        ),
        (
            "constexpr_sparse_blockwise_shift_scale",
            {
                "data_mask": mask1,
                "nonzero_data": INT8.reshape(-1)[: MASK.sum()],
                "scale": BLOCK_SCALE,
                "offset": BLOCK_OFFSET,
            },
            "iOS18",
        ),
        ("constexpr_cast", {"source_val": X.astype(np.float16), "output_dtype": "fp32"}, "iOS16"),
    ]


COMPRESSED = _cases()
CASES: list[tuple[Any, ...]] = [
    ("quantize", {"input": X}, {"scale": np.float32(0.02), "zero_point": np.int8(5), "output_dtype": "int8"}),
    (
        "quantize",
        {"input": X},
        {"scale": SCALE, "zero_point": np.full(4, 9, np.uint8), "axis": 0, "output_dtype": "uint8"},
    ),
    ("dequantize", {"input": INT8}, {"scale": np.float32(0.02), "zero_point": np.int8(5)}),
    ("dequantize", {"input": UINT8}, {"scale": SCALE, "axis": 0}),
    *((name, attributes) for name, attributes, _ in COMPRESSED),
]


@pytest.mark.parametrize(("operator", "attributes", "opset"), COMPRESSED, ids=[case[0] for case in COMPRESSED])
def test_decompresses(operator: str, attributes: dict[str, Any], opset: str, check: Callable[..., None]) -> None:
    check(operator, {}, attributes, None, opset)


@pytest.mark.parametrize("case", CASES[:2], ids=lambda case: case[0])
def test_quantizes(case: tuple[Any, ...], check: Callable[..., None]) -> None:
    # Rounding a 16-bit quotient may fall on the other side of a half: only 32 bits are compared to the step.
    check(*case, None, "iOS17", False)


@pytest.mark.parametrize("case", CASES[2:4], ids=lambda case: case[0])
def test_dequantizes(case: tuple[Any, ...], check: Callable[..., None]) -> None:
    operator, inputs, attributes = case
    scale, zero = attributes["scale"], attributes.get("zero_point", np.int8(0))
    shaped = scale.reshape(-1, 1) if scale.ndim else scale
    check(operator, inputs, attributes, lambda input: (input.numpy() - np.float32(zero)) * shaped, "iOS17", False)
