"""EasyQuant: nearer to the float model than the observers it starts from."""

from __future__ import annotations

import pytest
from torch import Tensor

import hycompile as hy
from hycompile.program import Program
from tests.passes.quantise.models import hybrid, samples


def _sqnr(program: Program, given: list[Tensor], text: str) -> float:
    found, _ = hy.quantise(program, given, text)
    assert found.plan is not None
    assert found.plan.measured is not None
    return found.plan.measured.output_sqnr


@pytest.mark.parametrize("observer", ["minmax", "mse"])
def test_is_nearer_than_what_it_starts_from(observer: str) -> None:
    options = f"bits=4,activation_bits=4,observer={observer},min_sqnr=-20.0"
    plain, found = (_sqnr(hybrid(), samples(8), f"quantise{{{extra}{options}}}") for extra in ("", "method=easyquant,"))
    assert found > plain + 1.0
