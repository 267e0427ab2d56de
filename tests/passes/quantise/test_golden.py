"""The graph with its plan written into it."""

from __future__ import annotations

import pytest

import hycompile as hy
from tests.conftest import Golden
from tests.passes.quantise.models import hybrid, samples

CASES = {
    "layers": "quantise",
    "inputs_only": "quantise{outputs=false}",
    "weights_only": "quantise{bits=4,activation_bits=0,weights=tensor}",
}


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str, golden: Golden) -> None:
    program = hybrid()
    quantised, _ = hy.quantise(program, samples(), CASES[case])
    golden(f"quantise/{case}", program.text(), _short(quantised.text()))


def _short(text: str) -> str:
    """Scales have too many digits for every machine to agree on."""
    import re

    return re.sub(r"scale=(\d+\.\d{3})\d*(e-\d+)?", r"scale=\1\2", text)
