"""Matrix products, attention and normalisation, against torch or NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

_random = np.random.default_rng(0)


def _normal(*shape: int) -> np.ndarray:
    return _random.normal(size=shape).astype(np.float32)


A, B = _normal(2, 3, 4, 5), _normal(2, 1, 5, 6)
WEIGHT, BIAS = _normal(7, 5), _normal(7)
QUERY, KEY, VALUE = _normal(2, 3, 4, 8), _normal(2, 3, 5, 8), _normal(2, 3, 5, 6)
MASK, KEPT = _normal(4, 5), _random.random((4, 5)) > 0.3
KEPT[:, 0] = True
IMAGE = _normal(2, 6, 4, 5)
GAMMA, BETA, MEAN, VARIANCE = _normal(6), _normal(6), _normal(6), np.abs(_normal(6)) + np.float32(0.5)
WIDE_GAMMA, WIDE_BETA = _normal(4, 5), _normal(4, 5)
EPSILON = np.float32(0.01)


def _t(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array)


CASES: list[tuple[Any, ...]] = [
    ("linear", {"x": A}, {"weight": WEIGHT, "bias": BIAS}, lambda x: F.linear(x, _t(WEIGHT), _t(BIAS))),
    ("linear", {"x": A}, {"weight": WEIGHT}, lambda x: F.linear(x, _t(WEIGHT))),
    ("matmul", {"x": A, "y": B}, {}),
    ("matmul", {"x": A, "y": A}, {"transpose_y": True}),
    ("matmul", {"x": A, "y": A}, {"transpose_x": True}),
    (
        "einsum",
        {"values": [_normal(2, 3, 4, 5), _normal(2, 5, 4, 6)]},
        {"equation": "nchw,nwhu->nchu"},
        lambda values: torch.einsum("nchw,nwhu->nchu", *values),
    ),
    ("scaled_dot_product_attention", {"query": QUERY, "key": KEY, "value": VALUE}, {}),
    ("scaled_dot_product_attention", {"query": QUERY, "key": KEY, "value": VALUE, "attn_mask": MASK}, {}),
    ("scaled_dot_product_attention", {"query": QUERY, "key": KEY, "value": VALUE, "attn_mask": KEPT}, {}),
    (
        "batch_norm",
        {"x": IMAGE},
        {"mean": MEAN, "variance": VARIANCE, "gamma": GAMMA, "beta": BETA, "epsilon": EPSILON},
        lambda x: F.batch_norm(x, _t(MEAN), _t(VARIANCE), _t(GAMMA), _t(BETA), eps=0.01),
    ),
    (
        "batch_norm",
        {"x": IMAGE},
        {"mean": MEAN, "variance": VARIANCE},
        lambda x: F.batch_norm(x, _t(MEAN), _t(VARIANCE)),
    ),
    (
        "instance_norm",
        {"x": IMAGE},
        {"gamma": GAMMA, "beta": BETA, "epsilon": EPSILON},
        lambda x: F.instance_norm(x, weight=_t(GAMMA), bias=_t(BETA), eps=0.01),
    ),
    ("layer_norm", {"x": IMAGE}, {"axes": [-1, 2], "gamma": WIDE_GAMMA, "beta": WIDE_BETA, "epsilon": EPSILON}),
    ("layer_norm", {"x": IMAGE}, {"axes": [1], "epsilon": EPSILON}),
    ("l2_norm", {"x": IMAGE}, {"epsilon": EPSILON}),
    (
        "local_response_norm",
        {"x": IMAGE},
        {"size": 3, "alpha": np.float32(0.5), "beta": np.float32(0.75), "k": np.float32(2.0)},
        lambda x: F.local_response_norm(x, 3, 0.5, 0.75, 2.0),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_matches_reference(case: tuple[Any, ...], check: Callable[..., None]) -> None:
    check(*case)
