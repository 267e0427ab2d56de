"""Attention and layer norm over channels-first data: no transposes in the package, and the same results."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hycompile.backends.coreml import Coreml
from hycompile.backends.coreml.attention import take_in_swaps
from hycompile.cache import Cache
from hycompile.capture import capture
from hycompile.device import choose_target
from hycompile.lowering import lower_cached
from hycompile.parity import Proof
from hycompile.program import Program
from hycompile.prove import prove


class _Attention(nn.Module):
    """Queries, keys and values as ``[batch, heads, channels, tokens]``, as convolutions give them."""

    def __init__(self, *swapped: str, mask: Tensor | None = None, **options: Any) -> None:
        super().__init__()
        self.swapped, self.options = swapped, options
        self.mask = mask

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.mT if name in self.swapped else x for name, x in (("q", q), ("k", k), ("v", v)))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask, **self.options)
        return mixed.mT if "out" in self.swapped else mixed


class _Norm(nn.Module):
    """Layer norm over the channels of an image, and of tokens."""

    def __init__(self, affine: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(6, elementwise_affine=affine)
        if affine:
            nn.init.normal_(self.norm.weight)
            nn.init.normal_(self.norm.bias)

    def forward(self, image: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        return self.norm(image.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), self.norm(tokens.mT).mT.relu()


def _attention(*swapped: str, **options: Any) -> Program:
    torch.manual_seed(0)
    shapes = {"q": (2, 3, 5, 4), "k": (2, 3, 5, 4), "v": (2, 3, 5, 4)}
    inputs = [
        torch.randn(shape).mT.contiguous() if name in swapped else torch.randn(shape) for name, shape in shapes.items()
    ]
    return capture(_Attention(*swapped, **options).eval(), tuple(inputs))


def _operators(program: Program, folder: Path) -> dict[str, int]:
    """Operator counts of the package, which is proved."""
    artifact, _ = lower_cached(program, Coreml(), choose_target("iphone-16", "fp32"), "", Cache(folder))
    assert prove(Coreml().open(artifact), program) < 1e-5
    counts: Any = artifact.manifest.facts["operators"]
    return counts


MASK = torch.randn(5, 5)
SEEN = torch.ones(5, 5).tril().bool()


@pytest.mark.parametrize(
    ("swapped", "options"),
    [
        (("q", "k", "v", "out"), {}),
        (("k",), {"scale": 1.0}),
        (("q", "v"), {"scale": 0.3}),
        (("out",), {}),
        (("q", "k", "v", "out"), {"mask": MASK}),
        (("v", "out"), {"mask": SEEN}),
    ],
)
def test_swapped_ends_are_taken_in(swapped: tuple[str, ...], options: dict[str, Any], tmp_path: Path) -> None:
    program = _attention(*swapped, **options)
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-5)):
        rewritten = program.to(dtype)
        proof = Proof(rewritten)
        assert take_in_swaps(rewritten.methods["forward"].graph) == 1
        assert proof.check(rewritten, "take_in_swaps", tolerance) <= tolerance
    operators = _operators(program, tmp_path)
    assert "transpose" not in operators
    assert (operators["matmul"], operators["softmax"]) == (2, 1)


@pytest.mark.parametrize(
    ("swapped", "options"),
    [
        ((), {}),
        (("q", "k", "v", "out"), {"is_causal": True}),
        (("k",), {"mask": torch.zeros(5, 5).masked_fill(torch.eye(5)[0].bool()[:, None], -math.inf)}),
    ],
)
def test_attention_that_is_no_product_stays(swapped: tuple[str, ...], options: dict[str, Any]) -> None:
    program = _attention(*swapped, **options)
    before = program.text()
    assert take_in_swaps(program.methods["forward"].graph) == 0
    assert program.text() == before


@pytest.mark.parametrize("affine", [False, True])
def test_norm_over_channels_is_one_operator(affine: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    program = capture(_Norm(affine).eval(), (torch.randn(2, 6, 3, 4), torch.randn(2, 6, 5)))
    operators = _operators(program, tmp_path)
    assert "transpose" not in operators
    assert operators["layer_norm"] == 2


def test_a_norm_whose_result_is_read_in_both_forms_keeps_its_transposes(tmp_path: Path) -> None:
    class Both(_Norm):
        def forward(self, image: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
            normed = self.norm(image.permute(0, 2, 3, 1))
            return normed.permute(0, 3, 1, 2), normed * tokens.mean()

    torch.manual_seed(0)
    program = capture(Both(True).eval(), (torch.randn(2, 6, 3, 4), torch.randn(2, 6, 5)))
    assert _operators(program, tmp_path)["transpose"] == 2
