"""State starts with its own value, whatever else the file holds."""

from __future__ import annotations

from pathlib import Path

import pytest

import hycompile as hy
from hycompile.cache import Cache
from hycompile.device import open_session


@pytest.mark.slow
def test_state_that_equals_a_constant_has_a_place_of_its_own(tmp_path: Path) -> None:
    """Here the first value of a convolution's state is, byte by byte, that of a constant in the file."""
    text = "normalise,sink-slices,lower-scans,quantise{activations=dynamic,min_sqnr=-300.0}"
    program, _ = hy.Pipeline.parse(text)(hy.load_program("causal-lm/lfm2-tiny"), prove=False)
    session = open_session(hy.lower(program, "host", "executorch", cache=Cache(tmp_path)))
    state = session.state()
    assert state is not None
    assert {"state.layer_0.conv", "state.layer_2.conv"} <= set(state)
