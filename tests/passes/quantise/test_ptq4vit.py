"""PTQ4ViT: what it gains, and that it takes products of two values along."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import hycompile as hy
from hycompile.parity import execute
from hycompile.program import Program
from tests.passes.quantise.models import hybrid, samples
from tests.support import captured


def _divergence(program: Program, found: Program, given: list[Tensor]) -> float:
    """Of the rounded prediction from the float one, on samples that were not calibrated on."""
    one, other = (
        torch.cat([execute(each.methods["forward"], (x,)).outputs[0] for x in given]) for each in (found, program)
    )
    return float(F.kl_div(F.log_softmax(one, -1), F.softmax(other, -1), reduction="batchmean"))


def test_diverges_less_than_what_it_starts_from() -> None:
    options = "bits=4,activation_bits=4,min_sqnr=-20.0"
    plain, found = (
        hy.quantise(hybrid(), samples(3), f"quantise{{{text}{options}}}")[0] for text in ("", "method=ptq4vit,")
    )
    unseen = samples(24)[3:]
    assert _divergence(hybrid(), found, unseen) < 0.8 * _divergence(hybrid(), plain, unseen)


class _Products(nn.Module):
    """Attention written out: both factors of its products have outliers."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(8, 8) for _ in "123")

    def forward(self, x: Tensor) -> Tensor:
        weights = (self.query(x) @ self.key(x).transpose(1, 2)).softmax(-1)
        return weights @ self.value(x)


def test_factors_of_products_are_searched() -> None:
    torch.manual_seed(0)
    program, given = captured(_Products(), torch.randn(2, 5, 8)), [torch.randn(2, 5, 8) for _ in range(2)]
    found, _ = hy.quantise(program, given, "quantise{method=ptq4vit,products=true,bits=6,activation_bits=6}")
    assert found.plan is not None
    chosen = {value.node: value.observer for value in found.plan.values}
    assert chosen["softmax"] == "ptq4vit"
    assert chosen["query.weight"] == "ptq4vit"


def test_has_no_parts() -> None:
    with pytest.raises(hy.errors.PassError, match="method 'ptq4vit' has no part 'twins'"):
        hy.quantise(hybrid(), samples(), "quantise{method=ptq4vit,without=twins}")
